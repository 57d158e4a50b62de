// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!q = !kvcache.tensor<head:8, query.win:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16}>
func.func @score_attention_c1(%q: !q, %c: !c) {
  // expected-error@+1 {{expected a cache with columns k, v and pos, got none called 'pos'}}
  %0 = kvcache.score.attention %q over %c stats(sum(p, over(query.win))) : (!q, !c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!q = !kvcache.tensor<head:4, query.win:?, channel.post:32, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @score_attention_c2(%q: !q, %c: !c) {
  // expected-error@+1 {{query: expected axis 'channel.post:64', got 'channel.post:32'}}
  %0 = kvcache.score.attention %q over %c stats(sum(p, over(query.win))) : (!q, !c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!q = !kvcache.tensor<head:8, query.win:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @score_attention_c3(%q: !q, %c: !c) {
  // expected-error@+1 {{statistic 0: expected axis 'query', got 'query.win': the two are different instances; insert gather or relabel}}
  %0 = kvcache.score.attention %q over %c stats(sum(p, over(query))) : (!q, !c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!q = !kvcache.tensor<head:8, query.win:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
func.func @score_attention_results_c3(%q: !q, %c: !c) {
  // expected-error@+1 {{expected one result for each of 2 statistics, got 1}}
  %0 = kvcache.score.attention %q over %c stats(sum(p, over(query.win)), lse) : (!q, !c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!k = !kvcache.tensor<head:8, token:?, channel.post:64, f16>
func.func @score_norm_c1(%k: !k) {
  // expected-error@+1 {{input: expected axis 'channel.v', got 'channel.post'}}
  %0 = kvcache.score.norm %k over [channel.v] : (!k) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!k = !kvcache.tensor<head:8, token:?, channel.post:64, f16>
func.func @score_norm_c2(%k: !k) {
  // expected-error@+1 {{result: expected axes [head:8, token:?], got axis 'channel.post' as well}}
  %0 = kvcache.score.norm %k over [channel.post] : (!k) -> !k
  return
}

// -----

!a = !kvcache.tensor<token.ev:?, channel.post:64, f16>
!b = !kvcache.tensor<token.keep:?, channel.post:64, f16>
!s = !kvcache.tensor<token.ev:?, f32>
!i = !kvcache.index<token.ev:? of token.keep>
func.func @score_nearest_c1(%a: !a, %b: !b) {
  // expected-error@+1 {{expected cosine or l2, got 'hamming'}}
  %0, %1 = kvcache.score.nearest hamming %a, %b along token.keep : (!a, !b) -> (!s, !i)
  return
}

// -----

!a = !kvcache.tensor<token.ev:?, channel.post:64, f16>
!b = !kvcache.tensor<token.keep:?, channel.pre:64, f16>
!s = !kvcache.tensor<token.ev:?, f32>
!i = !kvcache.index<token.ev:? of token.keep>
func.func @score_nearest_c2(%a: !a, %b: !b) {
  // expected-error@+1 {{candidates: expected axes among [token.ev:?, channel.post:64], got axis 'channel.pre'}}
  %0, %1 = kvcache.score.nearest cosine %a, %b along token.keep : (!a, !b) -> (!s, !i)
  return
}

// -----

!a = !kvcache.tensor<token.ev:?, channel.post:64, f16>
!b = !kvcache.tensor<token.keep:?, channel.post:64, f16>
!s = !kvcache.tensor<token.ev:?, f32>
!i = !kvcache.index<token.ev:? of token>
func.func @score_nearest_c3(%a: !a, %b: !b) {
  // expected-error@+1 {{expected positions of 'token.keep', got of 'token'}}
  %0, %1 = kvcache.score.nearest cosine %a, %b along token.keep : (!a, !b) -> (!s, !i)
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c1(%q: !q, %c: !c) {
  // expected-error@+1 {{expected a cache with columns k, v and pos, got none called 'pos'}}
  %0 = kvcache.score.reduce sum "p" of %q over %c along [query] : (!q, !c) -> !sg
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:32, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c2(%q: !q, %c: !c) {
  // expected-error@+1 {{query: expected axis 'channel.post:64', got 'channel.post:32'}}
  %0 = kvcache.score.reduce sum "p" of %q over %c along [query] : (!q, !c) -> !sg
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c3(%q: !q, %c: !c) {
  // expected-error@+1 {{expected sum or max, got 'min'}}
  %0 = kvcache.score.reduce min "p" of %q over %c along [query] : (!q, !c) -> !sg
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c4(%q: !q, %c: !c, %w: !kvcache.tensor<layer:2, f32>) {
  // expected-error@+1 {{input: expected axes among [head:8, group:2, query:?, token:?], got axis 'layer'}}
  %0 = kvcache.score.reduce sum "p * w" (w = %w) of %q over %c along [query] : (!q, !c, !kvcache.tensor<layer:2, f32>) -> !sg
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c5(%q: !q, %c: !c) {
  // expected-error@+1 {{query: expected axis 'layer'}}
  %0 = kvcache.score.reduce sum "p" of %q over %c along [layer] : (!q, !c) -> !sg
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_twice_c5(%q: !q, %c: !c) {
  // expected-error@+1 {{axis 'group' appears twice in along and mean}}
  %0 = kvcache.score.reduce sum "p" of %q over %c mean [group] along [query, group] : (!q, !c) -> !kvcache.tensor<head:8, token:?, f32>
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c6(%q: !q, %c: !c) {
  // expected-error@+1 {{result: expected axis 'token'}}
  %0 = kvcache.score.reduce sum "p" of %q over %c along [query] : (!q, !c) -> !kvcache.tensor<head:8, group:2, f32>
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c7(%q: !q, %c: !c, %l: !kvcache.tensor<head:8, f32>) {
  // expected-error@+1 {{lse: expected axis 'group'}}
  %0 = kvcache.score.reduce sum "p" of %q over %c lse %l along [query] : (!q, !c, !kvcache.tensor<head:8, f32>) -> !sg
  return
}

// -----

!q = !kvcache.tensor<head:8, group:2, query:?, channel.post:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!sg = !kvcache.tensor<head:8, group:2, token:?, f32>
func.func @score_reduce_c8(%q: !q, %c: !c) {
  // expected-error@+1 {{expected the region to yield 'f32'}}
  %0 = kvcache.score.reduce sum of %q over %c along [query] : (!q, !c) -> !sg {
  ^bb0(%p: f32, %i: i32, %j: i32):
    %y = arith.constant true
    kvcache.yield %y : i1
  }
  return
}

// -----

!q = !kvcache.tensor<head:8, query:?, channel.post:64, f16>
!o = !kvcache.tensor<head:8, query:?, channel.v:64, f16>
!c = !kvcache.cache<append, head:8, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32}>
!l = !kvcache.tensor<head:8, query:?, f32>
func.func @score_reduce_logit_c7(%q: !q, %c: !c) {
  %o, %l = kvcache.attend %q over %c logit "2 * z" stats(lse) : (!q, !c) -> (!o, !l)
  // expected-error@+1 {{lse: expected that of an attention without logit and at}}
  %0 = kvcache.score.reduce sum "p" of %q over %c lse %l along [query] : (!q, !c, !l) -> !kvcache.tensor<head:8, token:?, f32>
  return
}
