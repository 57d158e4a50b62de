// RUN: kvasir-opt %s --kvcache-decompose-families | FileCheck %s
// Numbers are compared elsewhere; here only the decisions that a one-to-one expansion would not show.
!kT = !kvcache.tensor<head:2, token:?, channel.post:64, f16>
!ke = !kvcache.tensor<head:2, token.ev:?, channel.post:64, f16>
!kk = !kvcache.tensor<head:2, token.keep:?, channel.post:64, f16>
!s = !kvcache.tensor<head:2, token:?, f32>
!se = !kvcache.tensor<head:2, token.ev:?, f32>
!keep = !kvcache.index<head:2, token.keep:? of token>
!to = !kvcache.index<head:2, token.ev:? of token.keep>

// Forced rows are keys of +inf; a selection without them ranks its scores as they are.
// CHECK-LABEL: func @topk_forced
// CHECK:         kvcache.iota token
// CHECK:         %[[KEYS:.*]] = kvcache.map
// CHECK:           arith.constant 0x7F800000 : f32
// CHECK:         kvcache.topk %[[KEYS]] count
func.func @topk_forced(%s: !s, %B: index, %n: index) -> !keep {
  %i = kvcache.select.topk %s budget %B last %n : (!s, index, index) -> !keep
  return %i : !keep
}

// CHECK-LABEL: func @topk_plain(%arg0
// CHECK-NOT:     kvcache.map
// CHECK:         kvcache.topk %arg0 count
func.func @topk_plain(%s: !s, %B: index) -> !keep {
  %i = kvcache.select.topk %s budget %B : (!s, index) -> !keep
  return %i : !keep
}

// The best value is computed once for the row found: arg-max streams over the products, so no matrix is kept.
// CHECK-LABEL: func @nearest
// CHECK:         %[[ALL:.*]] = kvcache.contract
// CHECK:         %[[AT:.*]] = kvcache.reduce argmax
// CHECK-NOT:     kvcache.reduce max
// CHECK:         kvcache.gather %{{.*}} at %[[AT]]
func.func @nearest(%a: !ke, %b: !kk) -> (!se, !to) {
  %best, %at = kvcache.score.nearest cosine %a, %b along token.keep : (!ke, !kk) -> (!se, !to)
  return %best, %at : !se, !to
}

// Nobody asked for the value: it is not computed.
// CHECK-LABEL: func @nearest_index_only
// CHECK:         kvcache.reduce argmax
// CHECK-NOT:     kvcache.gather
// CHECK:         return
func.func @nearest_index_only(%a: !ke, %b: !kk) -> !to {
  %best, %at = kvcache.score.nearest cosine %a, %b along token.keep : (!ke, !kk) -> (!se, !to)
  return %at : !to
}
