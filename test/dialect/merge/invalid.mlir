// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!src = !kvcache.tensor<token.ev:?, channel.v:8, f32>
!dst = !kvcache.tensor<token:?, channel.v:8, f32>
!to = !kvcache.index<token.ev:? of token.keep>
!w = !kvcache.tensor<token.ev:?, f32>
func.func @merge_into_c1(%src: !src, %dst: !dst, %to: !to, %w: !w) {
  // expected-error@+1 {{destination: expected axis 'token.keep', got 'token'}}
  %0 = kvcache.merge.into %src, %dst at %to weight %w : (!src, !dst, !to, !w) -> !dst
  return
}

// -----

!src = !kvcache.tensor<token.ev:?, channel.post:8, f32>
!dst = !kvcache.tensor<token.keep:?, channel.v:8, f32>
!to = !kvcache.index<token.ev:? of token.keep>
!w = !kvcache.tensor<token.ev:?, f32>
func.func @merge_into_c2(%src: !src, %dst: !dst, %to: !to, %w: !w) {
  // expected-error@+1 {{source: expected axis 'channel.v', got 'channel.post': the two are in different bases}}
  %0 = kvcache.merge.into %src, %dst at %to weight %w : (!src, !dst, !to, !w) -> !dst
  return
}

// -----

!src = !kvcache.tensor<token.ev:?, channel.v:8, f32>
!dst = !kvcache.tensor<token.keep:?, channel.v:8, f32>
!to = !kvcache.index<token.ev:? of token.keep>
!w = !kvcache.tensor<token.keep:?, f32>
func.func @merge_into_c3(%src: !src, %dst: !dst, %to: !to, %w: !w) {
  // expected-error@+1 {{weight: expected axis 'token.ev', got 'token.keep'}}
  %0 = kvcache.merge.into %src, %dst at %to weight %w : (!src, !dst, !to, !w) -> !dst
  return
}

// -----

!src = !kvcache.tensor<token.ev:?, channel.v:8, f32>
!dst = !kvcache.tensor<token.keep:?, channel.v:8, f32>
!to = !kvcache.index<token.ev:? of token.keep>
!w = !kvcache.tensor<token.ev:?, f32>
func.func @merge_into_c4(%src: !src, %dst: !dst, %to: !to, %w: !w) {
  // expected-error@+1 {{expected a result of the destination's type}}
  %0 = kvcache.merge.into %src, %dst at %to weight %w : (!src, !dst, !to, !w) -> !src
  return
}
