// RUN: kvasir-opt %s -split-input-file -verify-diagnostics --pass-pipeline="builtin.module(kvcache.method(kvcache-specialize{query-heads=8 kv-heads=2 head-dim=80}))"

kvcache.method @division {
  // expected-error @below {{parameter 'rank' = "D / 0": division by zero}}
  kvcache.param @rank = "D / 0" : i64
}

// -----

kvcache.method @range {
  // expected-error @below {{parameter 'rank' = 160}}
  kvcache.param @rank = "D * 2" : i64 in [1, 100]
}

// -----

!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = rotated<affine<4, tile(channel:D), zp_i16, scale_f16, lsb(channel)>, hadamard>, v [channel.v:D] = act, pos = i32}>
kvcache.method @hadamard {
  // expected-error @below {{column 'k' of state '@kv': expected a power of two of values per row under rotated<..., hadamard>, got 80}}
  kvcache.state @kv : !kv
}

// -----

!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = recent<affine<2, tile(token:group), min_f16, scale_f16, lsb(token)>, keep(0), block(tail)>, v [channel.v:D] = act, pos = i32}>
kvcache.method @granule {
  kvcache.param @group = 32 : i64
  kvcache.param @tail = 40 : i64
  // expected-error @below {{expected recent block and sinks to be multiples of the token tile 32, got block 40, sinks 0}}
  kvcache.state @kv : !kv
}

// -----

!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<4, tile(channel:D), min_f16, scale_f16, clip(0.9), lsb(channel)>, v [channel.v:D] = act, pos = i32}>
kvcache.method @clipped_minimum {
  // expected-error @below {{expected clip(..) with a zero point or without zeros}}
  kvcache.state @kv : !kv
}
