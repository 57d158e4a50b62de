// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// One list for all heads, cut at a quantile of the mean value norm; first entries and newest entries stay exact while the others
// are coded, keys four rows at a time.
// CHECK: 11 cases of {{.*}} agree with the reference
!st = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
!kve = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = sinks<recent<affine<4, tile(channel:32), min_bf16, scale_f16, lsb(channel)>, keep(16), block(4)>, 4>,
  v [channel.v:D] = sinks<recent<affine<3, tile(channel:16), min_f16, scale_f32, lsb(channel)>, keep(8), block(1)>, 4>,
  pos = i32}>
!t = !kvcache.tensor<f32>
kvcache.method @shared_quantile info {family = "select", paper = "", title = "shared-quantile"} {
  kvcache.param @cut = 0.3 : f32 in [0.0, 1.0]
  kvcache.state @kv : !kve
  kvcache.phase score (%kv = @kv : !kve) on(prompt_end) {
    %v = kvcache.column v of %kv : (!kve) -> !vT
    %n = kvcache.score.norm %v over [channel.v] : (!vT) -> !s
    %s = kvcache.reduce mean %n over [head] : (!s) -> !st
    kvcache.next score = %s : !st
  }
  kvcache.phase select (%s = score : !st, %c = @cut : f32) {
    %q = kvcache.reduce quantile %s over [token] at %c : (!st, f32) -> !t
    %keep = kvcache.select.where "s > q" (s = %s, q = %q) along token : (!st, !t) -> !all
    kvcache.next keep = %keep : !all
  }
}
