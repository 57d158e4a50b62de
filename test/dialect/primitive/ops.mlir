// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!sg = !kvcache.tensor<head:Hkv, group:G, token:?, f32>
!h = !kvcache.tensor<head:Hkv, f32>

// CHECK-LABEL: @map_spellings
func.func @map_spellings(%a: !s, %b: !h, %n: index) -> (!s, !s, !kvcache.tensor<head:Hkv, token:?, i1>) {
  // CHECK: kvcache.map %{{.*}}, %{{.*}} : (!{{.*}}, !{{.*}}) -> !{{.*}} {
  // CHECK-NEXT: ^bb0(%[[X:.*]]: f32, %[[Y:.*]]: f32):
  // CHECK-NEXT: %[[Z:.*]] = arith.divf %[[X]], %[[Y]] : f32
  // CHECK-NEXT: kvcache.yield %[[Z]] : f32
  %0 = kvcache.map %a, %b with arith.divf : (!s, !h) -> !s
  // An index becomes a float before it meets one; roundeven keeps ties at even.
  // CHECK: arith.index_cast
  // CHECK: arith.sitofp
  // CHECK: math.roundeven
  // CHECK: arith.select
  %1 = kvcache.map "select(x > 0 & n >= 2, -round(x / n) + 1e-3, max(y, -inf))" (x = %a, n = %n, y = %b) : (!s, index, !h) -> !s
  // CHECK: arith.cmpf ogt
  %2 = kvcache.map "x > 2 * (y + 1)" (x = %a, y = %b) : (!s, !h) -> !kvcache.tensor<head:Hkv, token:?, i1>
  return %0, %1, %2 : !s, !s, !kvcache.tensor<head:Hkv, token:?, i1>
}

// A name is a value for what follows, a statement without one a result.
// CHECK-LABEL: @map_statements
func.func @map_statements(%a: !s, %b: !h) -> (!s, !s) {
  // CHECK: %[[D:.*]] = arith.divf
  // CHECK: %[[BIG:.*]] = arith.cmpf oge, %[[D]],
  // CHECK: %[[R:.*]] = arith.select %[[BIG]], %[[D]],
  // CHECK: math.cos %[[D]]
  // CHECK: kvcache.yield %[[R]], %{{.*}} : f32, f32
  %0:2 = kvcache.map "m = x / y; big = m >= 1; select(big, m, 0); cos(m) * sin(x)" (x = %a, y = %b) : (!s, !h) -> (!s, !s)
  return %0#0, %0#1 : !s, !s
}

// CHECK-LABEL: @reduce
func.func @reduce(%a: !sg, %q: f32) {
  // CHECK: kvcache.reduce mean %{{.*}} over [group]
  %0 = kvcache.reduce mean %a over [group] : (!sg) -> !s
  // CHECK: kvcache.reduce quantile %{{.*}} over [token] at %
  %1 = kvcache.reduce quantile %0 over [token] at %q : (!s, f32) -> !h
  // CHECK: kvcache.reduce argmax %{{.*}} over [token] : (!{{.*}}) -> !
  %2 = kvcache.reduce argmax %0 over [token] : (!s) -> !kvcache.index<head:Hkv of token>
  // CHECK: kvcache.reduce sum %{{.*}} over [head, token]
  %3 = kvcache.reduce sum %0 over [head, token] : (!s) -> !kvcache.tensor<f32>
  return
}

// CHECK-LABEL: @contract
func.func @contract(%a: !kvcache.tensor<head:8, token:?, channel.post:64, f32>, %b: !kvcache.tensor<head:8, token:?, channel.other:64, f32>) -> !kvcache.tensor<head:8, channel.post:64, rank:64, f32> {
  // CHECK: kvcache.contract %{{.*}}, %{{.*}} over [token]
  %0 = kvcache.contract %a, %b over [token] : (!kvcache.tensor<head:8, token:?, channel.post:64, f32>, !kvcache.tensor<head:8, token:?, channel.other:64, f32>) -> !kvcache.tensor<head:8, channel.post:64, channel.other:64, f32>
  // CHECK: kvcache.eigh
  %w, %v = kvcache.eigh %0 : (!kvcache.tensor<head:8, channel.post:64, channel.other:64, f32>) -> (!kvcache.tensor<head:8, rank:64, f32>, !kvcache.tensor<head:8, channel.post:64, rank:64, f32>)
  return %v : !kvcache.tensor<head:8, channel.post:64, rank:64, f32>
}

// CHECK-LABEL: @pool
func.func @pool(%a: !s, %n: index, %S: index) -> index {
  // CHECK: kvcache.pool max %{{.*}} over [token] size %{{.*}} upto %
  %0 = kvcache.pool max %a over [token] size %n upto %S : (!s, index, index) -> !s
  // CHECK: kvcache.pool pooling %{{.*}} over [token] size %{{[^ ]*}} :
  %1 = kvcache.pool pooling %0 over [token] size %n : (!s, index) -> !s
  // CHECK: kvcache.iota token of
  %2 = kvcache.iota token of %1 : (!s) -> !kvcache.tensor<token:?, i32>
  // CHECK: kvcache.extent head of
  %3 = kvcache.extent head of %a : (!s) -> index
  return %3 : index
}

// CHECK-LABEL: @along
func.func @along(%a: !s, %l: !kvcache.tensor<layer:L, head:Hkv, f32>, %n: index) {
  // CHECK: kvcache.sort descending %{{.*}} along token : (!{{.*}}) -> !
  %0 = kvcache.sort descending %a along token : (!s) -> !s
  // CHECK: kvcache.sort ascending %{{.*}} along token blocks %
  %blocks = kvcache.sort ascending %a along token blocks %n : (!s, index) -> !s
  // CHECK: kvcache.sort ascending %{{.*}} along head
  %1 = kvcache.sort ascending %l along head : (!kvcache.tensor<layer:L, head:Hkv, f32>) -> !kvcache.tensor<layer:L, head:Hkv, f32>
  // CHECK: kvcache.scan sum %{{.*}} along token reverse
  %2 = kvcache.scan sum %0 along token reverse : (!s) -> !s
  // CHECK: kvcache.scan max %{{.*}} along layer :
  %3 = kvcache.scan max %l along layer : (!kvcache.tensor<layer:L, head:Hkv, f32>) -> !kvcache.tensor<layer:L, head:Hkv, f32>
  // CHECK: kvcache.concat %{{.*}}, %{{.*}} along token.all
  %4 = kvcache.concat %a, %2 along token.all : (!s, !s) -> !kvcache.tensor<head:Hkv, token.all:?, f32>
  // CHECK: kvcache.blocks mean %{{.*}} along token size %
  %5 = kvcache.blocks mean %a along token size %n : (!s, index) -> !kvcache.tensor<head:Hkv, page:?, f32>
  return
}

// CHECK-LABEL: @reduce_row_group
func.func @reduce_row_group(%x: !kvcache.tensor<head:Hkv, group:G, token:?, f32>) -> !kvcache.tensor<head:Hkv, group:Gs, token:?, f32> {
  // CHECK: kvcache.reduce mean %{{.*}} over [group]
  %0 = kvcache.reduce mean %x over [group] : (!kvcache.tensor<head:Hkv, group:G, token:?, f32>) -> !kvcache.tensor<head:Hkv, group:Gs, token:?, f32>
  return %0 : !kvcache.tensor<head:Hkv, group:Gs, token:?, f32>
}

// Beside whole groups, entries of query heads are those of the same head, and entries of KV heads are repeated.
// CHECK-LABEL: @map_row_group
func.func @map_row_group(%x: !sg, %y: !kvcache.tensor<head:Hkv, group:Gs, token:?, f32>) -> !sg {
  // CHECK: kvcache.map
  %0 = kvcache.map %x, %y with arith.mulf : (!sg, !kvcache.tensor<head:Hkv, group:Gs, token:?, f32>) -> !sg
  return %0 : !sg
}
