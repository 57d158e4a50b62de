// RUN: kvasir-opt %s --pass-pipeline="builtin.module(kvcache.method(kvcache-form-programs))" | FileCheck %s
// The score reaches the selection as a value; what waits for a length runs at both ends of events, behind a test of
// the row count; ingest is prefill without what only served its output.
!q = !kvcache.tensor<head:2, group:4, query:?, channel.post:64, f16>
!k = !kvcache.tensor<head:2, query:?, channel.post:64, f16>
!v = !kvcache.tensor<head:2, query:?, channel.v:64, f16>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:2, group:4, query:?, channel.v:64, f16>
!s = !kvcache.tensor<head:2, token:?, f32>
!keep = !kvcache.index<head:2, token.keep:? of token>
!kv = !kvcache.cache<append, head:2, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32, acc = f32}>
kvcache.method @m {
  kvcache.param @budget = 16 : index
  kvcache.state @kv : !kv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kv
  }
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end, step_end) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %B = budget : index) on(longer(@kv, budget)) {
    %i = kvcache.select.topk %s budget %B : (!s, index) -> !keep
    kvcache.next keep = %i : !keep
  }
  kvcache.phase compress (%i = keep : !keep, %kv = @kv : !kv) on(longer(@kv, budget)) {
    %c = kvcache.gather %kv at %i : (!kv, !keep) -> !kv
    kvcache.next @kv = %c : !kv
  }
}
// CHECK: kvcache.phase prefill
// CHECK:   kvcache.attend
// CHECK: kvcache.phase ingest
// CHECK:   kvcache.append
// CHECK-NOT: kvcache.attend
// CHECK: kvcache.phase prompt_end
// CHECK:   %[[S:.*]] = kvcache.column acc
// CHECK:   %[[N:.*]] = kvcache.extent token
// CHECK:   %[[DUE:.*]] = arith.cmpi ugt, %[[N]]
// CHECK:   %[[KV:.*]] = scf.if %[[DUE]]
// CHECK:     %[[I:.*]] = kvcache.select.topk %[[S]]
// CHECK:     kvcache.gather %{{.*}} at %[[I]]
// CHECK:   kvcache.next @kv = %[[KV]]
// CHECK: kvcache.phase step_end
// CHECK:   scf.if
