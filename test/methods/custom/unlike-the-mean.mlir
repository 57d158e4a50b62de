// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Keeps keys that point away from the mean key: a contraction whose terms cancel, so scores near 0 are as exact as the largest
// allows. Keys in symmetric 8-bit codes with f32 scales, values rotated, clipped, in 4 bits with zero points.
// CHECK: 11 cases of {{.*}} agree with the reference
!kvc = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = affine<8, tile(channel:16), none, scale_f32, lsb(channel)>,
  v [channel.v:D] = rotated<affine<4, tile(channel:32), zp_i16, scale_f16, clip(0.9), lsb(channel)>, hadamard>,
  pos = i32}>
!hk = !kvcache.tensor<head:Hkv, channel.post:D, f32>
kvcache.method @unlike_the_mean info {family = "score", paper = "", title = "unlike-the-mean"} {
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !kvc
  kvcache.phase score (%kv = @kv : !kvc) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kvc) -> !kT
    %m = kvcache.reduce mean %k over [token] : (!kT) -> !hk
    %s = kvcache.contract %k, %m over [channel.post] : (!kT, !hk) -> !s
    %n = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %r = kvcache.map "-s / max(n, 1e-6)" (s = %s, n = %n) : (!s, !s) -> !s
    kvcache.next score = %r : !s
  }
}
