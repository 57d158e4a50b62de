// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!hb = !kvcache.tensor<head:Hkv, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!drop = !kvcache.index<head:Hkv, token.ev:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {pos = i32}>

// CHECK-LABEL: @select
func.func @select(%s: !s, %b: !hb, %n: index, %kv: !kv) -> !drop {
  // CHECK: kvcache.select.topk %{{.*}} budget %{{.*}} first %{{.*}} last %
  %0 = kvcache.select.topk %s budget %b first %n last %n : (!s, !hb, index, index) -> !keep
  // CHECK: kvcache.select.topk %{{.*}} budget %{{[^ ]*}} last %
  %1 = kvcache.select.topk %s budget %n last %n : (!s, index, index) -> !keep
  // CHECK: kvcache.select.where %{{.*}}, %{{.*}} along token
  // CHECK-NEXT: ^bb0(%[[S:.*]]: f32, %[[B:.*]]: i32):
  // CHECK: arith.cmpf oge
  %2 = kvcache.select.where "s >= 1 / b" (s = %s, b = %b) along token : (!s, !hb) -> !keep
  // CHECK: kvcache.select.alloc global_topk %{{.*}} total %
  %3 = kvcache.select.alloc global_topk %s total %n : (!s, index) -> !hb
  // CHECK: kvcache.select.complement %{{.*}} of %
  %4 = kvcache.select.complement %2 of %kv : (!keep, !kv) -> !drop
  return %4 : !drop
}
