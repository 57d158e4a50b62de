// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!x = !kvcache.tensor<head:Hkv, token:?, channel.post:64, act>
!y = !kvcache.tensor<head:Hkv, token:?, channel.had:64, act>
!b = !kvcache.tensor<head:Hkv, channel.post:64, rank:16, f32>
!m = !kvcache.tensor<head:Hkv, channel.post:64, f32>
!c = !kvcache.tensor<head:Hkv, token:?, rank:16, act>

// CHECK-LABEL: @project
func.func @project(%x: !x, %b: !b, %m: !m) -> (!y, !c) {
  // CHECK: kvcache.project.hadamard %{{.*}} along channel.post
  %0 = kvcache.project.hadamard %x along channel.post : (!x) -> !y
  // CHECK: kvcache.project.lowrank %{{.*}} by %{{.*}} mean %
  %1 = kvcache.project.lowrank %x by %b mean %m : (!x, !b, !m) -> !c
  return %0, %1 : !y, !c
}
