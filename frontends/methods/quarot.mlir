// QuaRot's cache, arXiv 2404.00456. Keys (after RoPE) and values are rotated by an orthonormal Hadamard matrix, which
// spreads outliers, and coded per row in groups of `group` channels with an f16 scale and an integer zero point.
// `clip` shrinks the range before coding. Every row is coded at the end of the event that appended it.
// Deviation: only the cache is rotated and coded; weights and activations are left alone.
// No token budget.
!rot = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = rotated<affine<bits, tile(channel:group), zp_i16, scale_f16, clip(clip), lsb(channel)>, hadamard>,
  v [channel.v:D] = rotated<affine<bits, tile(channel:group), zp_i16, scale_f16, clip(clip), lsb(channel)>, hadamard>,
  pos = i32}>
kvcache.method @quarot info {family = "quantize", paper = "arXiv 2404.00456", title = "QuaRot cache"} {
  kvcache.param @bits = 4 : i64 in {2, 3, 4, 8}
  kvcache.param @group = "D" : i64 in [1, 65536]
  kvcache.param @clip = 1.0 : f32 in [0.01, 1.0]
  kvcache.state @kv : !rot
}
