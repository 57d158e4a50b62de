// KIVI, arXiv 2402.02750. Keys are quantized per channel in groups of tokens, values per token in groups of channels,
// both with f16 minimum and scale. Key rows are coded `residual_length` at a time as soon as so many are complete; the
// newest `residual_length` values stay exact. A row is exact in the step that appended it.
// No token budget: the types are the method.
!kivi = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = recent<affine<k_bits, tile(token:group_size), min_f16, scale_f16, lsb(token)>, keep(0), block(residual_length)>,
  v [channel.v:D] = recent<affine<v_bits, tile(channel:group_size), min_f16, scale_f16, lsb(channel)>, keep(residual_length), block(1)>,
  pos = i32}>
kvcache.method @kivi info {family = "quantize", paper = "arXiv 2402.02750", title = "KIVI"} {
  kvcache.param @k_bits = 2 : i64 in {2, 4}
  kvcache.param @v_bits = 2 : i64 in {2, 4}
  kvcache.param @group_size = 32 : i64 in {16, 32, 64, 128}
  kvcache.param @residual_length = 32 : i64 in [1, 1048576]
  kvcache.state @kv : !kivi
}
