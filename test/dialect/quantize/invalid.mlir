// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!x = !kvcache.tensor<token:?, channel.post:64, f32>
func.func @quantize_encode_c1(%x: !x) {
  // expected-error@+1 {{expected dense rows and a coded result}}
  %0 = kvcache.quantize.encode %x : (!x) -> !x
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.post:64, f32>
!y = !kvcache.tensor<token:?, channel.v:64, affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>>
func.func @quantize_encode_c2(%x: !x) {
  // expected-error@+1 {{result: expected axis 'channel.post', got 'channel.v': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.quantize.encode %x : (!x) -> !y
  return
}

// -----

!x = !kvcache.tensor<head:8, token:?, channel.v:64, f32>
!c = !kvcache.tensor<head:8, token:?, channel.v:64, affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>>
!kv = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
kvcache.method @quantize_encode_c3 {
  kvcache.state @kv : !kv
  kvcache.phase compress (%kv = @kv : !kv) {
    %v = kvcache.column v of %kv : (!kv) -> !x
    // expected-error@+1 {{expected in an encoder: rows are coded at a commit, not by a phase}}
    %0 = kvcache.quantize.encode %v : (!x) -> !c
    kvcache.next @kv = %kv : !kv
  }
}
