// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!s = !kvcache.tensor<head:8, token:?, f32>
!keep = !kvcache.index<head:8, token.keep:? of token>
func.func @topk_c1(%s: !s, %n: index) {
  // expected-error@+1 {{input: expected axis 'query', got axes [head:8, token:?]}}
  %0 = kvcache.topk %s count %n along query : (!s, index) -> !keep
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @topk_c2(%s: !s, %n: index) {
  // expected-error@+1 {{expected a selection of 'token', got '!kvcache.index<head:8 of token>'}}
  %0 = kvcache.topk %s count %n along token : (!s, index) -> !kvcache.index<head:8 of token>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!keep = !kvcache.index<head:8, token.keep:? of token>
func.func @topk_c3(%s: !s, %n: !kvcache.tensor<layer:2, i32>) {
  // expected-error@+1 {{count: expected axes among [head:8], got axis 'layer'}}
  %0 = kvcache.topk %s count %n along token : (!s, !kvcache.tensor<layer:2, i32>) -> !keep
  return
}

// -----

!k = !kvcache.tensor<head:8, token.ev:?, f32>
!keep = !kvcache.index<head:8, token.keep:? of token>
func.func @gather_c1(%k: !k, %i: !keep) {
  // expected-error@+1 {{input: expected axis 'token', got 'token.ev': the two are different instances; insert gather or relabel}}
  %0 = kvcache.gather %k at %i : (!k, !keep) -> !k
  return
}

// -----

!kv = !kvcache.cache<append, head:8, token:?, {pos = i32}>
!i = !kvcache.index<head:8, query:? of token>
func.func @gather_c2(%kv: !kv, %i: !i) {
  // expected-error@+1 {{expected a selection of rows of the cache}}
  %0 = kvcache.gather %kv at %i : (!kv, !i) -> !kv
  return
}

// -----

!k = !kvcache.tensor<head:8, token:?, f32>
!keep = !kvcache.index<head:8, token.keep:? of token>
func.func @gather_c3(%k: !k, %i: !keep) {
  // expected-error@+1 {{result: expected axis 'token.keep', got 'token': the two are different instances; insert gather or relabel}}
  %0 = kvcache.gather %k at %i : (!k, !keep) -> !k
  return
}

// -----

!a = !kvcache.tensor<token.ev:?, f32>
!b = !kvcache.tensor<token.keep:?, f32>
!to = !kvcache.index<token.ev:? of token.keep>
func.func @scatter_c1(%a: !a, %b: !b, %i: !to) {
  // expected-error@+1 {{expected add or set, got 'max'}}
  %0 = kvcache.scatter max %a into %b at %i : (!a, !b, !to) -> !b
  return
}

// -----

!a = !kvcache.tensor<token.ev:?, f32>
!b = !kvcache.tensor<token:?, f32>
!to = !kvcache.index<token.ev:? of token.keep>
func.func @scatter_c2(%a: !a, %b: !b, %i: !to) {
  // expected-error@+1 {{destination: expected axis 'token.keep', got 'token'}}
  %0 = kvcache.scatter add %a into %b at %i : (!a, !b, !to) -> !b
  return
}

// -----

!b = !kvcache.tensor<token.keep:?, f32>
!to = !kvcache.index<token.ev:? of token.keep>
func.func @scatter_c3(%b: !b, %i: !to) {
  // expected-error@+1 {{source: expected axis 'token.ev', got 'token.keep'}}
  %0 = kvcache.scatter add %b into %b at %i : (!b, !b, !to) -> !b
  return
}

// -----

!a = !kvcache.tensor<token.ev:?, f32>
!b = !kvcache.tensor<token.keep:?, f32>
!to = !kvcache.index<token.ev:? of token.keep>
func.func @scatter_c4(%a: !a, %b: !b, %i: !to) {
  // expected-error@+1 {{expected a result of the destination's type}}
  %0 = kvcache.scatter add %a into %b at %i : (!a, !b, !to) -> !a
  return
}

// -----

!k = !kvcache.tensor<rank:8, f32>
func.func @slice_c1(%k: !k, %n: index) {
  // expected-error@+1 {{input: expected axis 'token', got axes [rank:8]}}
  %0 = kvcache.slice %k along token from %n size %n : (!k, index, index) -> !k
  return
}

// -----

!k = !kvcache.tensor<head:8, rank:8, f32>
func.func @slice_c2(%k: !k, %n: index) {
  // expected-error@+1 {{result: expected axis 'head:8', got 'head:4'}}
  %0 = kvcache.slice %k along rank from %n size %n : (!k, index, index) -> !kvcache.tensor<head:4, rank:4, f32>
  return
}

// -----

!k = !kvcache.tensor<rank:8, f32>
func.func @relabel_c1(%k: !k) {
  // expected-error@+1 {{expected the same extents and elements under other names}}
  %0 = kvcache.relabel %k : (!k) -> !kvcache.tensor<rank.b:4, f32>
  return
}
