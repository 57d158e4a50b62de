// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// The mean of what a head drops is added to its newest entry, found by the extent of the selection: how many were
// kept, not how many there was room for. Selection comes from another method.
// CHECK: 11 cases of {{.*}} agree with the reference
!vk = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, act>
!ve = !kvcache.tensor<head:Hkv, token.ev:?, channel.v:D, act>
!hv = !kvcache.tensor<head:Hkv, channel.v:D, f32>
kvcache.method @newest_remembers info {family = "merge", paper = "", title = "newest-remembers"} {
  kvcache.param @base = "snapkv" : method
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !kv
  kvcache.phase compress (%kv = @kv : !kv, %keep = keep : !keep) {
    %drop = kvcache.select.complement %keep of %kv : (!keep, !kv) -> !drop
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %vk = kvcache.gather %v at %keep : (!vT, !keep) -> !vk
    %ve = kvcache.gather %v at %drop : (!vT, !drop) -> !ve
    %mean = kvcache.reduce mean %ve over [token.ev] : (!ve) -> !hv
    %c = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
    %n = kvcache.extent token.keep of %vk : (!vk) -> index
    %i = kvcache.iota token.keep of %vk : (!vk) -> !kvcache.tensor<token.keep:?, i32>
    %new = kvcache.map "select(i + 1 >= n, v + 0.1 * m, v)" (i = %i, n = %n, v = %vk, m = %mean) : (!kvcache.tensor<token.keep:?, i32>, index, !vk, !hv) -> !vk
    %r = kvcache.relabel %new : (!vk) -> !vT
    %d = kvcache.set_column %c, v = %r : (!kv, !vT) -> !kv
    kvcache.next @kv = %d : !kv
  }
}
