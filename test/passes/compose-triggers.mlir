// RUN: kvasir-opt %s --kvcache-compose="parts=twice" | FileCheck %s
// RUN: kvasir-opt %s --kvcache-compose="parts=quiet" | FileCheck %s --check-prefix=QUIET
// The default compress runs whenever a select phase has chosen. A score phase that ranks nothing asks for no selection.
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, n = f32}>
// CHECK-LABEL: kvcache.method @twice.composed
// CHECK:         kvcache.phase compress ({{.*}}) on(prompt_end, step_end)
kvcache.method @twice {
  kvcache.param @budget = 8 : index
  kvcache.state @kv : !kv
  kvcache.phase select (%kv = @kv : !kv, %B = budget : index) {
    %s = kvcache.column n of %kv : (!kv) -> !s
    %keep = kvcache.select.topk %s budget %B : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
  kvcache.phase select (%kv = @kv : !kv, %B = budget : index) on(step_end) {
    %s = kvcache.column n of %kv : (!kv) -> !s
    %keep = kvcache.select.topk %s budget %B last %B : (!s, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
// QUIET-LABEL: kvcache.method @quiet.composed
// QUIET:         kvcache.phase score
// QUIET:         kvcache.phase query
// QUIET-NOT:     kvcache.phase
kvcache.method @quiet {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !k
    %n = kvcache.score.norm %k over [channel.post] : (!k) -> !s
    %d = kvcache.set_column %kv, n = %n : (!kv, !s) -> !kv
    kvcache.next @kv = %d : !kv
  }
}
