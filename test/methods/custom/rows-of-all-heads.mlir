// RUN: %python %S/blocks.py --kvasir %kvasir --method rows-of-all-heads | FileCheck %s
// RUN: %python %S/blocks.py --kvasir %kvasir --method rows-of-all-heads --target reference | FileCheck %s
// RUN: %kvasir verify %s --require-fused
// REQUIRES: kvasir
// One list of rows for all heads, which are coded together: keys token by token, values two tokens at a time.
// CHECK: PASS {{[0-9]+}} cases of rows-of-all-heads
!rows = !kvcache.cache<append, token:?, {
  k [head:Hkv, channel.post:D] = recent<affine<k_bits, tile(head:*, channel:columns), min_f16, scale_f16, lsb(channel)>, keep(6), block(1)>,
  v [head:Hkv, channel.v:D] = recent<affine<v_bits, tile(token:2, head:*, channel:*), min_f16, scale_f16, lsb(channel)>, keep(3), block(4)>,
  pos = i32}>
kvcache.method @rows_of_all_heads info {family = "quantize", paper = "", title = "rows-of-all-heads"} {
  kvcache.param @k_bits = 4 : i64 in {2, 3, 4, 8}
  kvcache.param @v_bits = 2 : i64 in {2, 3, 4, 8}
  kvcache.param @columns = 8 : i64 in [1, 256]
  kvcache.state @kv : !rows
}
