// RUN: cat %methods/prelude.mlir %s | %kvasir-opt --verify-roundtrip | FileCheck %s
// Ember: a value that burns bright stays, less and less so as it ages; what falls below the threshold is folded into
// the kept entry whose key lies nearest. Written from primitives and scalar regions only: score, threshold, floor and
// merge rule are this file's own, and nothing outside of it knows them.
// score = |v|^2 (1 + age / half_life)^-1/2, age in entries, the newest 0. A head keeps as many of its best entries as have a
// score above `threshold` times the head's mean, at least `floor`. A dropped entry e merges into the kept entry t
// nearest to it (Euclidean, keys) with weight s_e / (s_e + s_t) exp(-distance^2 / (D temperature)); keys are not touched.
// Rows are stored as 3-bit codes in groups of 24 channels, coded at the end of the event that appended them.
// No token budget: `threshold` and `floor` say what stays.
// CHECK-LABEL: kvcache.method @ember
// CHECK: kvcache.phase score
// CHECK: math.rsqrt
// CHECK: kvcache.topk
// CHECK: kvcache.scatter add
!embers = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = affine<3, tile(channel:24), min_f16, scale_f16, lsb(channel)>,
  v [channel.v:D] = affine<3, tile(channel:24), min_f16, scale_f16, lsb(channel)>,
  pos = i32}>
!kk = !kvcache.tensor<head:Hkv, token.keep:?, channel.post:D, act>
!ke = !kvcache.tensor<head:Hkv, token.ev:?, channel.post:D, act>
!vk = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, act>
!ve = !kvcache.tensor<head:Hkv, token.ev:?, channel.v:D, act>
!vkf = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, f32>
!vef = !kvcache.tensor<head:Hkv, token.ev:?, channel.v:D, f32>
!vf = !kvcache.tensor<head:Hkv, token:?, channel.v:D, f32>
!sk = !kvcache.tensor<head:Hkv, token.keep:?, f32>
!se = !kvcache.tensor<head:Hkv, token.ev:?, f32>
!to = !kvcache.index<head:Hkv, token.ev:? of token.keep>
kvcache.method @ember info {family = "merge", paper = "", title = "Ember"} {
  kvcache.param @half_life = 256.0 : f32 in [1.0, 1000000.0]
  kvcache.param @threshold = 1.0 : f32 in [0.0, 100.0]
  kvcache.param @floor = 8 : index in [1, 1048576]
  kvcache.param @temperature = 4.0 : f32 in [0.001, 1000000.0]
  kvcache.state @kv : !embers
  kvcache.phase score (%kv = @kv : !embers, %half = @half_life : f32) on(prompt_end) {
    %v = kvcache.column v of %kv : (!embers) -> !vT
    %square = kvcache.map %v, %v with arith.mulf : (!vT, !vT) -> !vf
    %energy = kvcache.reduce sum %square over [channel.v] : (!vf) -> !s
    %n = kvcache.extent token of %kv : (!embers) -> index
    %i = kvcache.iota token of %kv : (!embers) -> !pT
    %s = kvcache.map %energy, %i, %n, %half : (!s, !pT, index, f32) -> !s {
    ^bb0(%e: f32, %at: i32, %count: index, %life: f32):
      %one = arith.constant 1.0 : f32
      %last = arith.index_cast %count : index to i32
      %past = arith.subi %last, %at : i32
      %agef = arith.sitofp %past : i32 to f32
      %age = arith.subf %agef, %one : f32
      %turns = arith.divf %age, %life : f32
      %cold = arith.addf %turns, %one : f32
      %warm = math.rsqrt %cold : f32
      %r = arith.mulf %e, %warm : f32
      kvcache.yield %r : f32
    }
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %least = @floor : index, %times = @threshold : f32) {
    %mean = kvcache.reduce mean %s over [token] : (!s) -> !h
    %over = kvcache.map "select(s > times * mean, 1, 0)" (s = %s, times = %times, mean = %mean) : (!s, f32, !h) -> !s
    %above = kvcache.reduce count %over over [token] : (!s) -> !hb
    %n = kvcache.map "max(above, least)" (above = %above, least = %least) : (!hb, index) -> !hb
    %keep = kvcache.topk %s count %n along token : (!s, !hb) -> !keep
    kvcache.next keep = %keep : !keep
  }
  kvcache.phase compress (%kv = @kv : !embers, %keep = keep : !keep, %s = score : !s, %soft = @temperature : f32) {
    %drop = kvcache.select.complement %keep of %kv : (!keep, !embers) -> !drop
    %k = kvcache.column k of %kv : (!embers) -> !kT
    %v = kvcache.column v of %kv : (!embers) -> !vT
    %kk = kvcache.gather %k at %keep : (!kT, !keep) -> !kk
    %ke = kvcache.gather %k at %drop : (!kT, !drop) -> !ke
    %vk = kvcache.gather %v at %keep : (!vT, !keep) -> !vk
    %ve = kvcache.gather %v at %drop : (!vT, !drop) -> !ve
    %sk = kvcache.gather %s at %keep : (!s, !keep) -> !sk
    %se = kvcache.gather %s at %drop : (!s, !drop) -> !se
    %far, %to = kvcache.score.nearest l2 %ke, %kk along token.keep : (!ke, !kk) -> (!se, !to)
    %st = kvcache.gather %sk at %to : (!sk, !to) -> !se
    %D = kvcache.extent channel.v of %ve : (!ve) -> index
    %w = kvcache.map "se / (se + st + 1e-12) * exp(-far * far / (D * soft))" (se = %se, st = %st, far = %far, D = %D, soft = %soft) : (!se, !se, !se, index, f32) -> !se
    %part = kvcache.map %ve, %w with arith.mulf : (!ve, !se) -> !vef
    %cold = kvcache.map "0 * s" (s = %sk) : (!sk) -> !sk
    %dark = kvcache.map "0 * v" (v = %vk) : (!vk) -> !vkf
    %mass = kvcache.scatter add %w into %cold at %to : (!se, !sk, !to) -> !sk
    %sum = kvcache.scatter add %part into %dark at %to : (!vef, !vkf, !to) -> !vkf
    %glow = kvcache.map %vk, %sum, %mass : (!vk, !vkf, !sk) -> !vk {
    ^bb0(%x: f32, %more: f32, %m: f32):
      %one = arith.constant 1.0 : f32
      %zero = arith.constant 0.0 : f32
      %y = arith.addf %x, %more : f32
      %total = arith.addf %m, %one : f32
      %mixed = arith.divf %y, %total : f32
      %touched = arith.cmpf ogt, %m, %zero : f32
      %r = arith.select %touched, %mixed, %x : f32
      kvcache.yield %r : f32
    }
    %c = kvcache.gather %kv at %keep : (!embers, !keep) -> !embers
    %new = kvcache.relabel %glow : (!vk) -> !vT
    %d = kvcache.set_column %c, v = %new : (!embers, !vT) -> !embers
    kvcache.next @kv = %d : !embers
  }
}
