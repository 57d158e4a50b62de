// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!x = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!y = !kvcache.tensor<head:Hkv, token:?, channel.post:D, affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>>

// CHECK-LABEL: @encode
func.func @encode(%x: !x) -> !y {
  // CHECK: kvcache.quantize.encode %{{.*}} : (!{{.*}}) -> !
  %0 = kvcache.quantize.encode %x : (!x) -> !y
  return %0 : !y
}
