// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!src = !kvcache.tensor<head:Hkv, token.ev:?, channel.v:D, act>
!dst = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, act>
!to = !kvcache.index<head:Hkv, token.ev:? of token.keep>
!w = !kvcache.tensor<head:Hkv, token.ev:?, f32>

// CHECK-LABEL: @merge
func.func @merge(%src: !src, %dst: !dst, %to: !to, %w: !w) -> !dst {
  // CHECK: kvcache.merge.into %{{.*}}, %{{.*}} at %{{.*}} weight %
  %0 = kvcache.merge.into %src, %dst at %to weight %w : (!src, !dst, !to, !w) -> !dst
  return %0 : !dst
}
