// RUN: %kvasir compile %s --emit=mlir:fused | FileCheck %s
// REQUIRES: kvasir
// The value of a map is computed where it is used, here after the rows were taken out of the cache in place; so the
// update moves behind the kernel that still reads the old rows.
!vk = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, f32>
!vf = !kvcache.tensor<head:Hkv, token:?, channel.v:D, f32>
kvcache.method @sink_updates info {family = "score", paper = "", title = ""} {
  kvcache.param @budget = 128 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %s = kvcache.score.norm %v over [channel.v] : (!vT) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase compress (%kv = @kv : !kv, %keep = keep : !keep) {
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %twice = kvcache.map "2 * v" (v = %v) : (!vT) -> !vf
    %c = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
    %taken = kvcache.gather %twice at %keep : (!vf, !keep) -> !vk
    %named = kvcache.relabel %taken : (!vk) -> !vf
    %new = kvcache.map "v" (v = %named) : (!vf) -> !vT
    %d = kvcache.set_column %c, v = %new : (!kv, !vT) -> !kv
    kvcache.next @kv = %d : !kv
  }
}
// CHECK: kvcache.phase prompt_end (%[[KV:[a-z0-9]+]] = @kv
// CHECK: kvcache.topk
// CHECK: %[[NEW:[0-9]+]] = kvcache.kernel (%{{.*}} = %[[KV]]
// CHECK: kvcache.gather %{{.*}} at
// CHECK: kvcache.relabel
// CHECK: %[[C:[0-9]+]] = kvcache.gather %[[KV]] at
// CHECK-NEXT: kvcache.set_column %[[C]], v = %[[NEW]]
