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
