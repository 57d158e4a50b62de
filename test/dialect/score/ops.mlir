// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
!sg = !kvcache.tensor<head:Hkv, group:G, token:?, f32>
!kk = !kvcache.tensor<head:Hkv, token.keep:?, channel.post:D, act>
!ke = !kvcache.tensor<head:Hkv, token.ev:?, channel.post:D, act>
!se = !kvcache.tensor<head:Hkv, token.ev:?, f32>

// CHECK-LABEL: @scores
func.func @scores(%q: !qw, %kv: !kv, %a: !ke, %b: !kk) -> (!sg, !se) {
  // CHECK: kvcache.score.attention %{{.*}} over %{{.*}} causal stats(sum(p, over(query.win)))
  %0 = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
  // CHECK: kvcache.score.norm %{{.*}} over [channel.post]
  %1 = kvcache.score.norm %a over [channel.post] : (!ke) -> !se
  // CHECK: kvcache.score.nearest cosine %{{.*}}, %{{.*}} along token.keep
  %2, %3 = kvcache.score.nearest cosine %a, %b along token.keep : (!ke, !kk) -> (!se, !kvcache.index<head:Hkv, token.ev:? of token.keep>)
  return %0, %2 : !sg, !se
}

// CHECK-LABEL: @statistics
func.func @statistics(%q: !qw, %kv: !kv, %w: !kvcache.tensor<query.win:?, f32>, %t: index, %l: !kvcache.tensor<head:Hkv, group:G, query.win:?, f32>) {
  // CHECK: kvcache.score.reduce sum (%{{.*}}) of %{{.*}} over %{{.*}} causal along [query.win] last(4) :
  // CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32, %[[W:.*]]: f32):
  // CHECK-NEXT: arith.mulf %[[P]], %[[W]]
  %0 = kvcache.score.reduce sum "p * w" (w = %w) of %q over %kv causal along [query.win] last(4) : (!qw, !kv, !kvcache.tensor<query.win:?, f32>) -> !sg
  // CHECK: kvcache.score.reduce max of %{{.*}} over %{{.*}} lse %{{.*}} mean [group] along [query.win] :
  // CHECK-NEXT: ^bb0(%{{.*}}: f32, %{{.*}}: i32, %[[K:.*]]: i32):
  %1 = kvcache.score.reduce max "select(kpos > qpos - 5, p * p, -1)" of %q over %kv lse %l mean [group] along [query.win] : (!qw, !kv, !kvcache.tensor<head:Hkv, group:G, query.win:?, f32>) -> !kvcache.tensor<head:Hkv, token:?, f32>
  // CHECK: kvcache.score.reduce sum of %{{.*}} over %{{.*}} along []
  %2 = kvcache.score.reduce sum "p" of %q over %kv along [] : (!qw, !kv) -> !kvcache.tensor<head:Hkv, group:G, query.win:?, token:?, f32>
  return
}
