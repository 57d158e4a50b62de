// RUN: %python %S/blocks.py --kvasir %kvasir --method tame-blocks | FileCheck %s
// RUN: %python %S/blocks.py --kvasir %kvasir --method tame-blocks --target reference | FileCheck %s
// RUN: %kvasir verify %s --require-fused
// REQUIRES: kvasir
// Keys lose the mean of their block of 8 rows, are cut to the `share` quantile of their row's magnitudes, and are coded in tiles
// of 8 tokens and 16 channels. They read as coded.
// CHECK: PASS {{[0-9]+}} cases of tame-blocks
!tame = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = recent<affine<4, tile(token:8, channel:16), min_f16, scale_f16, lsb(channel)>, keep(8), block(8)>,
  v [channel.v:D] = act, pos = i32}>
!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!y = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, f32>
!m = !kvcache.tensor<head:Hkv, page:?, channel.post:D, f32>
!r = !kvcache.tensor<head:Hkv, page:?, token:8, f32>
!coded = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(token:8, channel:16), min_f16, scale_f16, lsb(channel)>>
kvcache.method @tame_blocks info {family = "quantize", paper = "", title = "tame-blocks"} {
  kvcache.param @share = 0.75 : f32 in [0.0, 1.0]
  kvcache.encoder @tame (%x = rows : !x, %q = @share : f32) {
    %mean = kvcache.reduce mean %x over [token] : (!x) -> !m
    %c = kvcache.map "x - m" (x = %x, m = %mean) : (!x, !m) -> !y
    %size = kvcache.map "abs(c)" (c = %c) : (!y) -> !y
    %limit = kvcache.reduce quantile %size over [channel.post] at %q : (!y, f32) -> !r
    %cut = kvcache.map "max(min(c, l), 0 - l)" (c = %c, l = %limit) : (!y, !r) -> !y
    %codes = kvcache.quantize.encode %cut : (!y) -> !coded
    kvcache.yield %codes : !coded
  }
  kvcache.state @kv : !tame encode {k = @tame}
}
