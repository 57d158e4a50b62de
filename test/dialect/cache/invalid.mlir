// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, pos = i32}>
func.func @attend_c1(%q: !q, %c: !c) {
  // expected-error@+1 {{expected a cache with columns k, v and pos, got none called 'v'}}
  %0 = kvcache.attend %q over %c : (!q, !c) -> !q
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.pre:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_c2(%q: !q, %c: !c) {
  // expected-error@+1 {{query: expected axis 'channel.post', got 'channel.pre': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.attend %q over %c : (!q, !c) -> !q
  return
}

// -----

!q = !kvcache.tensor<query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_head_c2(%q: !q, %c: !c) {
  // expected-error@+1 {{query: expected axis 'head', got axes [query:?, channel.post:64]}}
  %0 = kvcache.attend %q over %c : (!q, !c) -> !q
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_c3(%q: !q, %c: !c) {
  // expected-error@+1 {{output: expected axis 'channel.v', got 'channel.post': the two are in different bases}}
  %0 = kvcache.attend %q over %c : (!q, !c) -> !q
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_c4(%q: !q, %c: !c) {
  // expected-error@+1 {{statistic 0: expected axis 'token', got axes [head:8, query:?]}}
  %0, %1 = kvcache.attend %q over %c stats(sum(p, over(query))) : (!q, !c) -> (!o, !kvcache.tensor<head:8, query:?, f32>)
  return
}

// -----

// Heads that share rows have statistics of their own.
!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, token:?, {k [head:8, channel.post:64] = f16, v [head:8, channel.v:64] = f16, pos = i32}>
func.func @attend_c4(%q: !q, %c: !c) {
  // expected-error@+1 {{statistic 0: expected axis 'head', got axes [query:?]}}
  %0, %1 = kvcache.attend %q over %c stats(lse) : (!q, !c) -> (!o, !kvcache.tensor<query:?, f32>)
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, pos = i32}>
func.func @append_c1(%c: !c, %p: !kvcache.tensor<query:?, i32>) {
  // expected-error@+1 {{no column 'position' in '!kvcache.cache}}
  %0 = kvcache.append %c, position = %p : (!c, !kvcache.tensor<query:?, i32>) -> !c
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, pos = i32}>
!k = !kvcache.tensor<head:8, query:?, channel.pre:64, f16>
func.func @append_c2(%c: !c, %k: !k) {
  // expected-error@+1 {{column 'k': expected axis 'channel.post', got 'channel.pre': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.append %c, k = %k : (!c, !k) -> !c
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, pos = i32}>
!k = !kvcache.tensor<head:8, channel.post:64, f16>
func.func @append_rows_c2(%c: !c, %k: !k) {
  // expected-error@+1 {{column 'k': expected an axis of kind 'query' or 'token' along which rows are added, got [head:8, channel.post:64]}}
  %0 = kvcache.append %c, k = %k : (!c, !k) -> !c
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {pos = i32}>
!d = !kvcache.cache<append, head:8, token:?, {pos = i64}>
func.func @append_c3(%c: !c, %p: !kvcache.tensor<query:?, i32>) {
  // expected-error@+1 {{expected a result of the cache's type}}
  %0 = kvcache.append %c, pos = %p : (!c, !kvcache.tensor<query:?, i32>) -> !d
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {pos = i32}>
func.func @column_c1(%c: !c) {
  // expected-error@+1 {{no column 'acc' in '!kvcache.cache}}
  %0 = kvcache.column acc of %c : (!c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {pos = i32}>
func.func @column_c2(%c: !c) {
  // expected-error@+1 {{result: expected axis 'head', got axes [token:?]}}
  %0 = kvcache.column pos of %c : (!c) -> !kvcache.tensor<token:?, i32>
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {pos = i32}>
func.func @column_element_c2(%c: !c) {
  // expected-error@+1 {{expected elements like those of column 'pos'}}
  %0 = kvcache.column pos of %c : (!c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {acc = f32}>
!s = !kvcache.tensor<head:8, token:?, f32>
func.func @set_column_c1(%c: !c, %s: !s) {
  // expected-error@+1 {{column 'acc' appears twice}}
  %0 = kvcache.set_column %c, acc = %s, acc = %s : (!c, !s, !s) -> !c
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {acc = f32}>
!s = !kvcache.tensor<head:8, token.keep:?, f32>
func.func @set_column_c2(%c: !c, %s: !s) {
  // expected-error@+1 {{column 'acc': expected axis 'token', got 'token.keep': the two are different instances; insert gather or relabel}}
  %0 = kvcache.set_column %c, acc = %s : (!c, !s) -> !c
  return
}

// -----

!c = !kvcache.cache<append, head:8, token:?, {acc = f32}>
!d = !kvcache.cache<append, head:8, token:?, {acc = f16}>
!s = !kvcache.tensor<head:8, token:?, f32>
func.func @set_column_c3(%c: !c, %s: !s) {
  // expected-error@+1 {{expected a result of the cache's type}}
  %0 = kvcache.set_column %c, acc = %s : (!c, !s) -> !d
  return
}

// -----

!q = !kvcache.tensor<query:?, channel.pre:64, f16>
func.func @rope_c1(%q: !q, %p: !kvcache.tensor<query:?, i32>) {
  // expected-error@+1 {{expected a result that differs from the input in the tag of one channel axis}}
  %0 = kvcache.rope %q by %p : (!q, !kvcache.tensor<query:?, i32>) -> !q
  return
}

// -----

!q = !kvcache.tensor<query:?, channel.pre:64, f16>
!r = !kvcache.tensor<query:?, channel.post:64, f16>
func.func @rope_c2(%q: !q, %p: !kvcache.tensor<token:?, i32>) {
  // expected-error@+1 {{positions: expected axes among [query:?, channel.pre:64], got axis 'token'}}
  %0 = kvcache.rope %q by %p : (!q, !kvcache.tensor<token:?, i32>) -> !r
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_c5(%q: !q, %c: !c, %i: !kvcache.index<head:8, query.keep:? of query>) {
  // expected-error@+1 {{at: expected positions of 'token', got of 'query'}}
  %0 = kvcache.attend %q over %c at %i : (!q, !c, !kvcache.index<head:8, query.keep:? of query>) -> !o
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_points_c5(%q: !q, %c: !c, %i: !kvcache.index<layer:2, token.keep:? of token>) {
  // expected-error@+1 {{at: expected axes among [head:8, query:?], got axis 'layer'}}
  %0 = kvcache.attend %q over %c at %i : (!q, !c, !kvcache.index<layer:2, token.keep:? of token>) -> !o
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_sums_c5(%q: !q, %c: !c, %i: !kvcache.index<head:8, token.keep:? of token>) {
  // expected-error@+1 {{at: expected no sums, whose token axis is that of the whole cache}}
  %0, %1 = kvcache.attend %q over %c at %i stats(sum(p, over(query))) : (!q, !c, !kvcache.index<head:8, token.keep:? of token>) -> (!o, !kvcache.tensor<head:8, token:?, f32>)
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_c6(%q: !q, %c: !c, %b: !kvcache.tensor<layer:2, f32>) {
  // expected-error@+1 {{input: expected axes among [head:8, query:?, token:?], got axis 'layer'}}
  %0 = kvcache.attend %q over %c logit "z + b" (b = %b) : (!q, !c, !kvcache.tensor<layer:2, f32>) -> !o
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_c7(%q: !q, %c: !c) {
  // expected-error@+1 {{expected the region to yield 'f32'}}
  %0 = kvcache.attend %q over %c logit : (!q, !c) -> !o {
  ^bb0(%z: f32, %i: i32, %j: i32):
    %y = arith.constant true
    kvcache.yield %y : i1
  }
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_inputs_c7(%q: !q, %c: !c, %b: f32) {
  // expected-error@+1 {{expected no inputs without logit}}
  %0 = "kvcache.attend"(%q, %c, %b) <{operandSegmentSizes = array<i32: 1, 1, 0, 1>}> ({}) : (!q, !c, f32) -> !o
  return
}

// -----

!q = !kvcache.tensor<head:8, group:4, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, group:4, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, group:4, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!s = !kvcache.tensor<head:8, token:?, f32>
func.func @attend_row_group_c4(%q: !q, %c: !c) {
  // expected-error@+1 {{statistic 0: expected no sum over axis 'group', which the cache has rows for}}
  %0, %1 = kvcache.attend %q over %c stats(sum(p, over(query, group))) : (!q, !c) -> (!o, !s)
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @attend_sums_c7(%q: !q, %c: !c) {
  // expected-error@+1 {{logit: expected no sums: they are of probabilities without it}}
  %0, %1 = kvcache.attend %q over %c logit "2 * z" stats(sum(p, over(query))) : (!q, !c) -> (!o, !kvcache.tensor<head:8, token:?, f32>)
  return
}
