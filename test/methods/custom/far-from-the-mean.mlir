// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// A calibrated mean key; entries far from it stay.
// CHECK: 11 cases of {{.*}} agree with the reference
!m = !kvcache.tensor<head:Hkv, channel.post:D, f32>
kvcache.method @far_from_the_mean info {family = "score", paper = "", title = "far-from-the-mean"} {
  kvcache.param @budget = 64 : index
  kvcache.artefact @mean : !m
  kvcache.state @kv : !kv
  kvcache.phase calibrate (%k = key : !kT) {
    %km = kvcache.reduce mean %k over [token] : (!kT) -> !m
    kvcache.next @mean = %km : !m
  }
  kvcache.phase score (%kv = @kv : !kv, %m = @mean : !m) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %d = kvcache.map %k, %m with arith.subf : (!kT, !m) -> !kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>
    %s = kvcache.score.norm %d over [channel.post] : (!kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>) -> !s
    kvcache.next score = %s : !s
  }
}
