// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_topk_c1(%s: !s, %n: index) {
  // expected-error@+1 {{result: expected axis 'head', got axes [token.keep:?]}}
  %0 = kvcache.select.topk %s budget %n : (!s, index) -> !kvcache.index<token.keep:? of token>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!hb = !kvcache.tensor<head:8, f32>
func.func @select_topk_c2(%s: !s, %n: !hb) {
  // expected-error@+1 {{budget: expected integers}}
  %0 = kvcache.select.topk %s budget %n : (!s, !hb) -> !kvcache.index<head:8, token.keep:? of token>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_where_c1(%s: !s) {
  // expected-error@+1 {{expected a selection of 'token', got of 'query'}}
  %0 = kvcache.select.where "s > 0" (s = %s) along token : (!s) -> !kvcache.index<head:8, query.keep:? of query>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_where_c2(%s: !s) {
  // expected-error@+1 {{expected one block argument for each of 1 inputs, got 0}}
  %0 = kvcache.select.where %s along token : (!s) -> !kvcache.index<head:8, token.keep:? of token> {
    %y = arith.constant true
    kvcache.yield %y : i1
  }
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_where_c3(%s: !s) {
  // expected-error@+1 {{expected the region to yield ('i1'), got ('f32')}}
  %0 = kvcache.select.where %s along token : (!s) -> !kvcache.index<head:8, token.keep:? of token> {
  ^bb0(%x: f32):
    kvcache.yield %x : f32
  }
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_complement_c1(%s: !s, %i: !i) {
  // expected-error@+1 {{expected selections of one axis}}
  %0 = kvcache.select.complement %i of %s : (!i, !s) -> !kvcache.index<head:8, query.ev:? of query>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_complement_c2(%s: !s, %i: !i) {
  // expected-error@+1 {{expected a result with another instance than 'token.keep'}}
  %0 = kvcache.select.complement %i of %s : (!i, !s) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_c1(%s: !s, %n: index) {
  // expected-error@+1 {{expected global_topk or proportional, got 'uniform'}}
  %0 = kvcache.select.alloc uniform %s total %n : (!s, index) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_c2(%s: !s, %n: index) {
  // expected-error@+1 {{expected a result of integers}}
  %0 = kvcache.select.alloc global_topk %s total %n : (!s, index) -> !kvcache.tensor<head:8, f32>
  return
}
