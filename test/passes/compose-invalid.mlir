// RUN: kvasir-opt %s -split-input-file -verify-diagnostics --kvcache-compose="parts=a,b set=n=3"

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.param @n = 1 : index in [0, 4]
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @b {
  kvcache.state @kv : !kv
  // expected-error @below {{phase 'score' is defined by 'b' and by 'a': a composition takes each phase from one method}}
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}

// -----

!a = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, v [channel.v:D] = act, pos = i32}>
!b = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>, v [channel.v:D] = act, pos = i32}>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !a
}
kvcache.method @b {
  // expected-error @below {{column 'k' of state '@kv' is held in two ways}}
  kvcache.state @kv : !b
}

// -----

kvcache.method @a {
  // expected-error @below {{parameter 'n' = 3}}
  kvcache.param @n = 1 : index in [0, 2]
}
kvcache.method @b {}

// -----

// expected-error @below {{unknown parameter 'n', expected one of window}}
kvcache.method @a {
  kvcache.param @window = 1 : index
}
kvcache.method @b {}

// -----

// expected-error @below {{unknown method 'b'}}
module {
  kvcache.method @a {
    kvcache.param @n = 1 : index
  }
}
