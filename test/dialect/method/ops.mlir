// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = factor<rank, act>, pos = i32}>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!m = !kvcache.tensor<head:Hkv, channel.v:D, f32>
!b = !kvcache.tensor<head:Hkv, channel.v:D, rank:rank, f32>

// CHECK-LABEL: kvcache.method @all info {family = "test", paper = "none"}
kvcache.method @all info {family = "test", paper = "none"} {
  // CHECK-NEXT: kvcache.param @count = 64 : index in [1, 4096]
  kvcache.param @count = 64 : index in [1, 4096]
  // CHECK-NEXT: kvcache.param @bits = 2 : i64 in {2, 4}
  kvcache.param @bits = 2 : i64 in {2, 4}
  // CHECK-NEXT: kvcache.param @share = 0.2 : f32 in [0.0, 1.0]
  kvcache.param @share = 0.2 : f32 in [0.0, 1.0]
  // CHECK-NEXT: kvcache.param @tiny = 1.0e-06 : f64
  kvcache.param @tiny = 1.0e-6 : f64
  // CHECK-NEXT: kvcache.param @on = true
  kvcache.param @on = true
  // CHECK-NEXT: kvcache.param @fn = "avg" in {"avg", "max"}
  kvcache.param @fn = "avg" in {"avg", "max"}
  // CHECK-NEXT: kvcache.param @skip = [0, 1]
  kvcache.param @skip = [0, 1]
  // CHECK-NEXT: kvcache.param @rank = "D / 2" : i64
  kvcache.param @rank = "D / 2" : i64
  // CHECK-NEXT: kvcache.param @base = "other" : method
  kvcache.param @base = "other" : method
  // CHECK-NEXT: kvcache.artefact @basis
  kvcache.artefact @basis : !b
  kvcache.artefact @mean : !m
  // CHECK: kvcache.state @kv : !{{.*}} fixed {v = [@basis, @mean]} when(@on = true)
  kvcache.state @kv : !kv fixed {v = [@basis, @mean]} when(@on = true)
  // CHECK: kvcache.phase score, select (%[[KV:.*]] = @kv : !{{.*}}, %{{.*}} = last_queries(count) : !{{.*}}, %{{.*}} = budget : index)
  // CHECK-SAME: layers(except(@skip)) on(prompt_end, longer(@kv, budget), step_end) when(@fn = "avg")
  kvcache.phase score, select (%kv = @kv : !kv, %q = last_queries(count) : !m, %B = budget : index) layers(except(@skip)) on(prompt_end, longer(@kv, budget), step_end) when(@fn = "avg") {
    %x = kvcache.score.norm %q over [channel.v] : (!m) -> !kvcache.tensor<head:Hkv, f32>
    // CHECK: kvcache.next budget = %{{.*}} : !{{.*}}, @kv = %[[KV]]
    kvcache.next budget = %x : !kvcache.tensor<head:Hkv, f32>, @kv = %kv : !kv
  }
  // CHECK: kvcache.phase query () {
  kvcache.phase query () {
    %c = arith.constant 1 : index
    kvcache.next out = %c : index
  }
}
// CHECK: kvcache.compose @two = [@all, @other]
kvcache.compose @two = [@all, @other]
