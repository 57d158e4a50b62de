// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = factor<rank, act>, pos = i32}>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!m = !kvcache.tensor<head:Hkv, channel.v:D, f32>
!b = !kvcache.tensor<head:Hkv, channel.v:D, rank:rank, f32>

!coded = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = recent<affine<bits, tile(token:4, channel:*), min_f16, scale_f16, lsb(channel)>, keep(0), block(8)>}>
!rows = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!codes = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<bits, tile(token:4, channel:*), min_f16, scale_f16, lsb(channel)>>

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
  // CHECK: kvcache.artefact @trained : !{{.*}} from file{{$}}
  kvcache.artefact @trained : !m from file
  // CHECK: kvcache.artefact @searched : !{{.*}} from file else 5.0{{0*}}e-01
  kvcache.artefact @searched : !m from file else 0.5
  // CHECK: kvcache.state @kv : !{{.*}} fixed {v = [@basis, @mean]} when(@on = true)
  kvcache.state @kv : !kv fixed {v = [@basis, @mean]} when(@on = true)
  // CHECK: kvcache.encoder @halve (%[[X:.*]] = rows : !{{.*}}, %{{.*}} = @share : f32) {
  kvcache.encoder @halve (%x = rows : !rows, %f = @share : f32) {
    %y = kvcache.map "x * f" (x = %x, f = %f) : (!rows, f32) -> !rows
    %c = kvcache.quantize.encode %y : (!rows) -> !codes
    // CHECK: kvcache.yield %{{.*}} : !
    kvcache.yield %c : !codes
  }
  // CHECK: kvcache.state @coded : !{{.*}} encode {k = @halve}
  kvcache.state @coded : !coded encode {k = @halve}
  // CHECK: kvcache.phase score, select (%[[KV:.*]] = @kv : !{{.*}}, %{{.*}} = last_queries(count) : !{{.*}}, %{{.*}} = budget : index)
  // CHECK-SAME: layers(except(@skip)) on(prompt_end, longer(@kv, budget), step_end) when(@fn = "avg")
  kvcache.phase score, select (%kv = @kv : !kv, %q = last_queries(count) : !m, %B = budget : index) layers(except(@skip)) on(prompt_end, longer(@kv, budget), step_end) when(@fn = "avg") {
    %x = kvcache.score.norm %q over [channel.v] : (!m) -> !kvcache.tensor<head:Hkv, f32>
    // CHECK: kvcache.next budget = %{{.*}} : !{{.*}}, @kv = %[[KV]]
    kvcache.next budget = %x : !kvcache.tensor<head:Hkv, f32>, @kv = %kv : !kv
  }
  // CHECK: kvcache.phase allocate (%{{.*}} = budget : index) scope(model) when(@fn = "max")
  kvcache.phase allocate (%B = budget : index) scope(model) when(@fn = "max") {
    kvcache.next budget = %B : index
  }
  // A result under a name of its own, and the phase that takes it.
  // CHECK: kvcache.phase score () {
  kvcache.phase score () {
    %c = arith.constant 1 : index
    // CHECK: kvcache.next measure = %{{.*}} : index
    kvcache.next measure = %c : index
  }
  // CHECK: kvcache.phase select (%{{.*}} = measure : index)
  kvcache.phase select (%m = measure : index) {
    kvcache.next budget = %m : index
  }
  // CHECK: kvcache.phase prefill (%{{.*}} = rows : index, %{{.*}} = @fn : index) on(chunks(count)) when(@fn = ["avg", "max"])
  kvcache.phase prefill (%n = rows : index, %fn = @fn : index) on(chunks(count)) when(@fn = ["avg", "max"]) {
    kvcache.next out = %fn : index
  }
  // CHECK: kvcache.phase query () {
  kvcache.phase query () {
    %c = arith.constant 1 : index
    kvcache.next out = %c : index
  }
}
// CHECK: kvcache.compose @two = [@all, @other]
kvcache.compose @two = [@all, @other]

!hkm = !kvcache.tensor<head:Hkv, channel.post:D, f32>
!hkL = !kvcache.tensor<layer:L, head:Hkv, channel.post:D, f32>
// CHECK-LABEL: kvcache.method @sources
kvcache.method @sources {
  kvcache.param @texts = 4 : index
  kvcache.artefact @means : !hkL else 0.0
  // CHECK: kvcache.phase calibrate (%{{.*}} = key : !{{.*}}) on(text(texts, 64)) {
  kvcache.phase calibrate (%k = key : !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>) on(text(texts, 64)) {
    %m = kvcache.reduce mean %k over [token] : (!kvcache.tensor<head:Hkv, token:?, channel.post:D, act>) -> !hkm
    kvcache.next mean_key = %m : !hkm
  }
  // CHECK: kvcache.phase calibrate (%{{.*}} = mean_key : !{{.*}}) scope(model) {
  kvcache.phase calibrate (%m = mean_key : !hkL) scope(model) {
    %n = kvcache.map "0 - m" (m = %m) : (!hkL) -> !hkL
    kvcache.next @means = %n : !hkL
  }
}
