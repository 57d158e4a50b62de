// RUN: %python %S/blocks.py --kvasir %kvasir --method square-tiles | FileCheck %s
// RUN: %python %S/blocks.py --kvasir %kvasir --method square-tiles --target reference | FileCheck %s
// RUN: %kvasir verify %s --require-fused
// REQUIRES: kvasir
// Keys in tiles of 4 tokens and 8 channels; values in one tile of a whole block of 6 rows.
// CHECK: PASS {{[0-9]+}} cases of square-tiles
!tiles = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = recent<affine<k_bits, tile(token:rows, channel:columns), min_f16, scale_f16, lsb(channel)>, keep(4), block(8)>,
  v [channel.v:D] = recent<affine<2, tile(token:*, channel:*), min_f16, scale_f16, lsb(channel)>, keep(0), block(6)>,
  pos = i32}>
kvcache.method @square_tiles info {family = "quantize", paper = "", title = "square-tiles"} {
  kvcache.param @k_bits = 4 : i64 in {2, 3, 4, 8}
  kvcache.param @rows = 4 : i64 in {2, 4, 8}
  kvcache.param @columns = 8 : i64 in [1, 256]
  kvcache.state @kv : !tiles
}
