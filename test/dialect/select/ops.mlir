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

// CHECK-LABEL: @sets
func.func @sets(%s: !s, %i: !keep, %j: !drop, %b: !kvcache.index<head:Hkv, page.keep:? of page>, %n: index, %kv: !kv) -> !keep {
  // CHECK: kvcache.select.union %{{.*}}, %{{.*}} of %
  %0 = kvcache.select.union %i, %j of %s : (!keep, !drop, !s) -> !keep
  // CHECK: kvcache.select.expand %{{.*}} size %{{.*}} of %
  %1 = kvcache.select.expand %b size %n of %kv : (!kvcache.index<head:Hkv, page.keep:? of page>, index, !kv) -> !drop
  %2 = kvcache.select.union %0, %1 of %kv : (!keep, !drop, !kv) -> !keep
  return %2 : !keep
}

// CHECK-LABEL: @items
func.func @items(%s: !s, %n: !kvcache.tensor<token:?, i32>, %total: index, %each: !hb) {
  // CHECK: kvcache.select.fit %{{.*}} sizes %{{.*}} total %
  %0 = kvcache.select.fit %s sizes %n total %total : (!s, !kvcache.tensor<token:?, i32>, index) -> !keep
  // CHECK: kvcache.select.fit %{{.*}} sizes %{{.*}} total %
  %1 = kvcache.select.fit %s sizes %total total %each : (!s, index, !hb) -> !keep
  return
}

// CHECK-LABEL: @shares
func.func @shares(%w: !kvcache.tensor<layer:L, head:Hkv, f32>, %n: index, %cap: !hb) {
  // CHECK: kvcache.select.alloc proportional %{{.*}} total %{{.*}} floor %{{.*}} cap %
  %0 = kvcache.select.alloc proportional %w total %n floor %n cap %cap : (!kvcache.tensor<layer:L, head:Hkv, f32>, index, index, !hb) -> !kvcache.tensor<layer:L, head:Hkv, i32>
  // CHECK: kvcache.select.alloc proportional %{{.*}} total %{{[^ ]*}} cap %
  %1 = kvcache.select.alloc proportional %w total %n cap %n : (!kvcache.tensor<layer:L, head:Hkv, f32>, index, index) -> !kvcache.tensor<layer:L, head:Hkv, i32>
  return
}

// CHECK-LABEL: @prefixes
func.func @prefixes(%s: !kvcache.tensor<layer:L, head:Hkv, token:?, f32>, %n: index, %each: !kvcache.tensor<layer.seen:L, i32>) {
  // CHECK: kvcache.select.alloc global_topk %{{.*}} total %{{.*}} upto %{{.*}} along layer
  %0 = kvcache.select.alloc global_topk %s total %each upto %each along layer : (!kvcache.tensor<layer:L, head:Hkv, token:?, f32>, !kvcache.tensor<layer.seen:L, i32>, !kvcache.tensor<layer.seen:L, i32>) -> !kvcache.tensor<layer:L, head:Hkv, layer.seen:L, i32>
  %1 = kvcache.select.alloc global_topk %s total %n upto %each along head : (!kvcache.tensor<layer:L, head:Hkv, token:?, f32>, index, !kvcache.tensor<layer.seen:L, i32>) -> !kvcache.tensor<layer:L, head:Hkv, layer.seen:L, i32>
  // CHECK: kvcache.select.alloc global_topk %{{.*}} total %{{.*}} upto %[[N:.*]] along layer
  %2 = kvcache.select.alloc global_topk %s total %n upto %n along layer : (!kvcache.tensor<layer:L, head:Hkv, token:?, f32>, index, index) -> !kvcache.tensor<layer:L, head:Hkv, i32>
  return
}

// CHECK-LABEL: @channels
func.func @channels(%c: !kvcache.tensor<head:Hkv, channel.post:D, f32>, %k: !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>, %n: index) {
  // CHECK: kvcache.topk %{{.*}} count %{{.*}} along channel.post
  %0 = kvcache.topk %c count %n along channel.post : (!kvcache.tensor<head:Hkv, channel.post:D, f32>, index) -> !kvcache.index<head:Hkv, channel.keep:R of channel.post>
  // CHECK: kvcache.gather %{{.*}} at %
  %1 = kvcache.gather %k at %0 : (!kvcache.tensor<head:Hkv, token:?, channel.post:D, act>, !kvcache.index<head:Hkv, channel.keep:R of channel.post>) -> !kvcache.tensor<head:Hkv, token:?, channel.keep:R, act>
  return
}
