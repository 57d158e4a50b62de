// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Keys of all heads as coefficients of one basis, held in one list of rows. The basis of `else` has equal vectors: codes and
// targets are what is compared.
// CHECK: {{[0-9]+}} cases of {{.*}} agree with the reference
!rows = !kvcache.cache<append, token:?, {
  k [head:Hkv, channel.post:D] = sinks<recent<factor<24, act>, keep(4), block(2)>, 3>,
  v [head:Hkv, channel.v:D] = recent<affine<4, tile(head:*, channel:*), none, scale_f16, lsb(channel)>, keep(2), block(1)>,
  pos = i32}>
kvcache.method @one_basis info {family = "project", paper = "", title = "one-basis"} {
  kvcache.artefact @basis : !kvcache.tensor<head:Hkv, channel.post:D, rank:24, f32> from file else 0.05
  kvcache.artefact @mean : !kvcache.tensor<head:Hkv, channel.post:D, f32> from file else 0.1
  kvcache.state @kv : !rows fixed {k = [@basis, @mean]}
}
