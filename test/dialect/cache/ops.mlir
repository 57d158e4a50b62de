// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!qpre = !kvcache.tensor<head:Hkv, group:G, query:?, channel.pre:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
!raw = !kvcache.cache<append, head:Hkv, token:?, {k [channel.pre:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
!all = !kvcache.cache<append, token:?, {k [head:Hkv, channel.post:D] = act, v [head:Hkv, channel.v:D] = act, pos = i32}>

// CHECK-LABEL: @step
func.func @step(%kv: !kv, %q: !q, %k: !k, %v: !v, %p: !p) -> (!o, !kv) {
  // CHECK: %[[C:.*]] = kvcache.append %{{.*}}, k = %{{.*}}, v = %{{.*}}, pos = %
  %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
  // CHECK: kvcache.attend %{{.*}} over %[[C]] causal stats(sum(p, over(query, group), last(1)), lse)
  %o, %s, %l = kvcache.attend %q over %c causal stats(sum(p, over(query, group), last(1)), lse) : (!q, !kv) -> (!o, !s, !kvcache.tensor<head:Hkv, group:G, query:?, f32>)
  // CHECK: kvcache.column acc of %[[C]]
  %a = kvcache.column acc of %c : (!kv) -> !s
  // CHECK: kvcache.set_column %[[C]], acc = %
  %d = kvcache.set_column %c, acc = %a : (!kv, !s) -> !kv
  return %o, %d : !o, !kv
}

// CHECK-LABEL: @rotary_view
func.func @rotary_view(%raw: !raw, %q: !qpre, %at: !kvcache.tensor<token:?, i32>, %p: !p) -> !o {
  // CHECK: kvcache.rope %{{.*}} by %
  %view = kvcache.rope %raw by %at : (!raw, !kvcache.tensor<token:?, i32>) -> !kv
  // CHECK: kvcache.rope %{{.*}} by %
  %r = kvcache.rope %q by %p : (!qpre, !p) -> !q
  // CHECK: kvcache.attend %{{[^ ]*}} over %{{[^ ]*}} :
  %o = kvcache.attend %r over %view : (!q, !kv) -> !o
  return %o : !o
}

// CHECK-LABEL: @logits
func.func @logits(%kv: !kv, %q: !q, %b: !s, %at: !kvcache.index<head:Hkv, token.keep:? of token>) -> (!o, !o) {
  // CHECK: kvcache.attend %{{.*}} over %{{.*}} causal logit (%{{.*}}) stats(lse)
  // CHECK-NEXT: ^bb0(%[[Z:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32, %[[B:.*]]: f32):
  // CHECK-NEXT: arith.addf %[[Z]], %[[B]]
  %o, %l = kvcache.attend %q over %kv causal logit "z + b" (b = %b) stats(lse) : (!q, !kv, !s) -> (!o, !kvcache.tensor<head:Hkv, group:G, query:?, f32>)
  // CHECK: kvcache.attend %{{.*}} over %{{.*}} at %{{[^ ]*}} :
  %e = kvcache.attend %q over %kv at %at : (!q, !kv, !kvcache.index<head:Hkv, token.keep:? of token>) -> !o
  return %o, %e : !o, !o
}

// Rows of all heads: a head is no feature that a product sums over.
// CHECK-LABEL: @rows_of_all_heads
func.func @rows_of_all_heads(%c: !all, %q: !q, %k: !k, %v: !v, %p: !p) -> (!o, !s) {
  %a = kvcache.append %c, k = %k, v = %v, pos = %p : (!all, !k, !v, !p) -> !all
  // CHECK: kvcache.attend %{{.*}} over %{{.*}} causal stats(sum(p, over(query, group)), lse)
  %o, %s, %l = kvcache.attend %q over %a causal stats(sum(p, over(query, group)), lse) : (!q, !all) -> (!o, !s, !kvcache.tensor<head:Hkv, group:G, query:?, f32>)
  // CHECK: kvcache.score.reduce sum
  %r = kvcache.score.reduce sum "p" of %q over %a causal lse %l along [query, group] : (!q, !all, !kvcache.tensor<head:Hkv, group:G, query:?, f32>) -> !s
  return %o, %r : !o, !s
}
