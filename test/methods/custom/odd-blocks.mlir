// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Keys in tiles of 8 tokens, coded 16 rows at a time with 24 exact; values in groups of 5 channels, coded two rows at a time.
// Selection comes from another method.
// CHECK: 11 cases of {{.*}} agree with the reference
!c = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = recent<affine<4, tile(token:8), min_f16, scale_f16, lsb(token)>, keep(24), block(16)>,
  v [channel.v:D] = recent<affine<2, tile(channel:5), min_f16, scale_f16, lsb(channel)>, keep(3), block(2)>,
  pos = i32}>
kvcache.method @odd_blocks info {family = "quantize", paper = "", title = "odd-blocks"} {
  kvcache.param @base = "snapkv" : method
  kvcache.state @kv : !c
}
