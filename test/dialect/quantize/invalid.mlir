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
