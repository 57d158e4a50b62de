// RUN: kvasir-opt %s --pass-pipeline="builtin.module(kvcache.method(kvcache-specialize{query-heads=8 kv-heads=2 head-dim=64}))" | FileCheck %s
// Symbols of geometry and parameters become numbers, parameters that phases bind become constants, and an expression
// over geometry is evaluated. The function of a pool is a parameter too. A text of a set is bound as its place there.
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = factor<rank, act>, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @m {
  kvcache.param @rank = "D / 4" : i64
  kvcache.param @size = 5 : index
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @twice = "2 * pooling" : i64
  kvcache.artefact @basis : !kvcache.tensor<head:Hkv, channel.post:D, rank:rank, f32>
  kvcache.artefact @mean : !kvcache.tensor<head:Hkv, channel.post:D, f32>
  kvcache.state @kv : !kv fixed {k = [@basis, @mean]}
  kvcache.phase score (%kv = @kv : !kv, %n = @size : index, %f = @pooling : index) {
    %a = kvcache.column acc of %kv : (!kv) -> !s
    %b = kvcache.pool pooling %a over [token] size %n : (!s, index) -> !s
    %s = kvcache.map "b * f" (b = %b, f = %f) : (!s, index) -> !s
    kvcache.next score = %s : !s
  }
}
// CHECK: !kvcache.cache<append, head:2, token:?, {k [channel.post:64] = factor<16, f16>, v [channel.v:64] = f16, pos = i32, acc = f32}>
// CHECK: kvcache.param @rank = 16 : i64
// CHECK: kvcache.param @twice = 2 : i64
// CHECK: kvcache.artefact @basis
// CHECK: kvcache.phase score (%{{[a-z0-9]+}} = @kv : !{{[a-z]+}}) {
// CHECK-DAG: %[[N:.*]] = arith.constant 5 : index
// CHECK-DAG: %[[F:.*]] = arith.constant 1 : index
// CHECK:   kvcache.pool max %{{.*}} over [token] size %[[N]]
// CHECK:   kvcache.map %{{.*}}, %[[F]]
