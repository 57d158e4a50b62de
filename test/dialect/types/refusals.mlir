// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
// What named axes are for: five products of things that do not belong together, each refused with both sides named and,
// where an op made the wrong one, with a note at that op.

!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
!vT = !kvcache.tensor<head:Hkv, token:?, channel.v:D, act>
!kT = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!gram = !kvcache.tensor<head:Hkv, token:?, token.other:?, f32>
!other = !kvcache.tensor<head:Hkv, token.other:?, channel.post:D, act>
func.func @mixed_axes(%kv: !kv, %o: !other) {
  // expected-note@+1 {{the value with axes [head:Hkv, token:?, channel.v:D] is made here}}
  %v = kvcache.column v of %kv : (!kv) -> !vT
  // Values are no keys, whatever their extent.
  // expected-error@+1 {{left operand: expected axis 'channel.post', got 'channel.v': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.contract %v, %o over [channel.post] : (!vT, !other) -> !gram
  return
}

// -----

!kT = !kvcache.tensor<head:8, token:?, channel.post:64, act>
!scales = !kvcache.tensor<head:8, token:?, frame:4, f32>
!parts = !kvcache.tensor<head:8, token:?, frame:2, f32>
func.func @scales_of_another_group(%parts: !parts, %scales: !scales) {
  // Two groups of 32 channels, and scales of four groups of 16.
  // expected-error@+1 {{inputs disagree on the extent of axis 'frame': 'frame:2' and 'frame:4'}}
  %0 = kvcache.map "x / s" (x = %parts, s = %scales) : (!parts, !scales) -> !parts
  return
}

// -----

!kv = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = act, v [channel.v:64] = act, pos = i32}>
!q = !kvcache.tensor<head:8, group:4, query:?, channel.post:64, act>
!qpre = !kvcache.tensor<head:8, group:4, query:?, channel.pre:64, act>
!o = !kvcache.tensor<head:8, group:4, query:?, channel.v:64, act>
func.func @before_and_after_rope(%q: !q, %kv: !kv) {
  // expected-note@+1 {{the value with axes [head:8, group:4, query:?, channel.pre:64] is made here}}
  %half = kvcache.relabel %q : (!q) -> !qpre
  // expected-error@+1 {{query: expected axis 'channel.post', got 'channel.pre': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.attend %half over %kv : (!qpre, !kv) -> !o
  return
}

// -----

!kv = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = act, v [channel.v:64] = act, pos = i32}>
!s = !kvcache.tensor<head:4, token:?, f32>
!i = !kvcache.index<head:4, token.keep:? of token>
func.func @indices_of_another_head_grouping(%kv: !kv, %s: !s, %n: index) {
  // expected-note@+1 {{the value with axes [head:4] is made here}}
  %i = kvcache.topk %s count %n along token : (!s, index) -> !i
  // expected-error@+1 {{index set: expected axis 'head:8', got 'head:4': heads are grouped in another way}}
  %0 = kvcache.gather %kv at %i : (!kv, !i) -> !kv
  return
}

// -----

!codes = !kvcache.tensor<head:8, token.ev:?, channel.v:64, affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>>
!dst = !kvcache.tensor<head:8, token.keep:?, channel.v:64, act>
!to = !kvcache.index<head:8, token.ev:? of token.keep>
!w = !kvcache.tensor<head:8, token.ev:?, f32>
func.func @merge_into_c5(%codes: !codes, %dst: !dst, %to: !to, %w: !w) {
  // expected-error@+1 {{expected exact rows, got codes in}}
  %0 = kvcache.merge.into %codes, %dst at %to weight %w : (!codes, !dst, !to, !w) -> !dst
  return
}
