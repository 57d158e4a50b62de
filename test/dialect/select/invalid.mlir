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

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_floor_c1(%s: !s, %n: index) {
  // expected-error@+1 {{expected no floor or cap with global_topk}}
  %0 = kvcache.select.alloc global_topk %s total %n floor %n : (!s, index, index) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!h = !kvcache.tensor<head:8, f32>
func.func @select_alloc_points_c2(%w: !h, %n: index) {
  // expected-error@+1 {{result: expected axis 'head', got axes [layer:8]}}
  %0 = kvcache.select.alloc proportional %w total %n : (!h, index) -> !kvcache.tensor<layer:8, i32>
  return
}

// -----

!h = !kvcache.tensor<head:8, f32>
func.func @select_alloc_c3(%w: !h, %n: index, %f: !h) {
  // expected-error@+1 {{floor and cap: expected integers}}
  %0 = kvcache.select.alloc proportional %w total %n floor %f : (!h, index, !h) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!h = !kvcache.tensor<head:8, f32>
func.func @select_alloc_axes_c3(%w: !h, %n: index, %c: !kvcache.tensor<layer:2, i32>) {
  // expected-error@+1 {{floor or cap: expected axes among [head:8], got axis 'layer'}}
  %0 = kvcache.select.alloc proportional %w total %n cap %c : (!h, index, !kvcache.tensor<layer:2, i32>) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!h = !kvcache.tensor<head:8, f32>
func.func @select_alloc_upto_c1(%w: !h, %n: index) {
  // expected-error@+1 {{expected no upto with proportional}}
  %0 = kvcache.select.alloc proportional %w total %n upto %n along head : (!h, index, index) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_behind_c2(%s: !s, %n: index, %m: !kvcache.tensor<layer:2, i32>) {
  // expected-error@+1 {{result: expected axis 'layer', got axes [head:8]}}
  %0 = kvcache.select.alloc global_topk %s total %n upto %m along head : (!s, index, !kvcache.tensor<layer:2, i32>) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_c4(%s: !s, %n: index) {
  // expected-error@+1 {{upto: expected axis 'token', got axes [head:8]}}
  %0 = kvcache.select.alloc global_topk %s total %n upto %n along token : (!s, index, index) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_c5(%s: !s, %n: index, %m: !kvcache.tensor<layer:2, f32>) {
  // expected-error@+1 {{total and upto: expected integers, got}}
  %0 = kvcache.select.alloc global_topk %s total %n upto %m along head : (!s, index, !kvcache.tensor<layer:2, f32>) -> !kvcache.tensor<head:8, layer:2, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_lacking_c5(%s: !s, %n: index, %m: !kvcache.tensor<head:8, i32>) {
  // expected-error@+1 {{upto: expected axes that the scores lack, got axis 'head'}}
  %0 = kvcache.select.alloc global_topk %s total %n upto %m along head : (!s, index, !kvcache.tensor<head:8, i32>) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @select_alloc_total_c5(%s: !s, %n: !kvcache.tensor<layer:2, i32>) {
  // expected-error@+1 {{total: expected axes among [], got axis 'layer'}}
  %0 = kvcache.select.alloc global_topk %s total %n : (!s, !kvcache.tensor<layer:2, i32>) -> !kvcache.tensor<head:8, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_union_c1(%s: !s, %i: !i, %j: !kvcache.index<head:8, query.keep:? of query>) {
  // expected-error@+1 {{expected selections of one axis}}
  %0 = kvcache.select.union %i, %j of %s : (!i, !kvcache.index<head:8, query.keep:? of query>, !s) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_union_c2(%s: !s, %i: !i, %j: !kvcache.index<layer:2, token.ev:? of token>) {
  // expected-error@+1 {{selection: expected axes among [head:8], got axis 'layer'}}
  %0 = kvcache.select.union %i, %j of %s : (!i, !kvcache.index<layer:2, token.ev:? of token>, !s) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_union_c3(%s: !s, %i: !i) {
  // expected-error@+1 {{result: expected axis 'head', got axes []}}
  %0 = kvcache.select.union %i, %i of %s : (!i, !i, !s) -> !kvcache.index<token.keep:? of token>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_expand_c1(%s: !s, %b: !kvcache.index<head:8 of page>, %n: index) {
  // expected-error@+1 {{expected a selection of blocks}}
  %0 = kvcache.select.expand %b size %n of %s : (!kvcache.index<head:8 of page>, index, !s) -> !i
  return
}

// -----

!h = !kvcache.tensor<head:8, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_expand_c2(%h: !h, %b: !kvcache.index<head:8, page.keep:? of page>, %n: index) {
  // expected-error@+1 {{operand: expected axis 'token', got axes [head:8]}}
  %0 = kvcache.select.expand %b size %n of %h : (!kvcache.index<head:8, page.keep:? of page>, index, !h) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
!i = !kvcache.index<head:8, token.keep:? of token>
func.func @select_expand_c3(%s: !s, %b: !kvcache.index<page.keep:? of page>, %n: index) {
  // expected-error@+1 {{result: expected axes [], got axis 'head' as well}}
  %0 = kvcache.select.expand %b size %n of %s : (!kvcache.index<page.keep:? of page>, index, !s) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, segment:?, f32>
func.func @select_fit_c1(%s: !s, %n: index) {
  // expected-error@+1 {{operand: expected axis 'token', got axes [head:8, segment:?]}}
  %0 = kvcache.select.fit %s sizes %n total %n : (!s, index, index) -> !kvcache.index<head:8, token.keep:? of token>
  return
}

// -----

!s = !kvcache.tensor<head:8, segment:?, f32>
!i = !kvcache.index<head:8, segment.keep:? of segment>
func.func @select_fit_c2(%s: !s, %n: !s, %total: index) {
  // expected-error@+1 {{sizes and total: expected integers, got '!kvcache.tensor<head:8, segment:?, f32>'}}
  %0 = kvcache.select.fit %s sizes %n total %total : (!s, !s, index) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, segment:?, f32>
!i = !kvcache.index<head:8, segment.keep:? of segment>
func.func @select_fit_axes_c2(%s: !s, %n: !kvcache.tensor<token:?, i32>, %total: index) {
  // expected-error@+1 {{sizes: expected axes among [head:8, segment:?], got axis 'token'}}
  %0 = kvcache.select.fit %s sizes %n total %total : (!s, !kvcache.tensor<token:?, i32>, index) -> !i
  return
}

// -----

!s = !kvcache.tensor<head:8, segment:?, f32>
!n = !kvcache.tensor<segment:?, i32>
!i = !kvcache.index<head:8, segment.keep:? of segment>
func.func @select_fit_c3(%s: !s, %n: !n) {
  // expected-error@+1 {{total: expected axes among [head:8], got axis 'segment'}}
  %0 = kvcache.select.fit %s sizes %n total %n : (!s, !n, !n) -> !i
  return
}
