// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_c1(%a: !s, %b: !kvcache.tensor<head:4, f32>) {
  // expected-error@+1 {{inputs disagree on the extent of axis 'head'}}
  %0 = kvcache.map %a, %b with arith.addf : (!s, !kvcache.tensor<head:4, f32>) -> !s
  return
}

// -----

func.func @map_basis_c1(%a: !kvcache.tensor<channel.pre:8, f32>) {
  // expected-error@+1 {{result 0: expected axis 'channel.pre', got 'channel.post': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.map %a with arith.negf : (!kvcache.tensor<channel.pre:8, f32>) -> !kvcache.tensor<channel.post:8, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_c2(%a: !s) {
  // expected-error@+1 {{expected block argument 0 of type 'f32', got 'f16'}}
  %0 = kvcache.map %a : (!s) -> !s {
  ^bb0(%x: f16):
    %y = arith.extf %x : f16 to f32
    kvcache.yield %y : f32
  }
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_c3(%a: !s) {
  // expected-error@+1 {{expected the region to yield ('f32'), got ('i1')}}
  %0 = kvcache.map %a : (!s) -> !s {
  ^bb0(%x: f32):
    %y = arith.cmpf ogt, %x, %x : f32
    kvcache.yield %y : i1
  }
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_expression_name(%a: !s) {
  // expected-error@+1 {{unknown name 'y' at position 4 of "x + y"}}
  %0 = kvcache.map "x + y" (x = %a) : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_expression_results(%a: !s) {
  // expected-error@+1 {{expected 2 results, got 1 at position 12 of "y = x + 1; y"}}
  %0:2 = kvcache.map "y = x + 1; y" (x = %a) : (!s) -> (!s, !s)
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_expression_name_twice(%a: !s) {
  // expected-error@+1 {{'x' has a value already at position 9 of "x = x + 1; x"}}
  %0 = kvcache.map "x = x + 1; x" (x = %a) : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_expression_condition(%a: !s) {
  // expected-error@+1 {{expected a condition, got a number}}
  %0 = kvcache.map "select(x, x, x)" (x = %a) : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @map_with_other_dialect(%a: !s) {
  // expected-error@+1 {{expected an op of arith or math after 'with', got 'func.call'}}
  %0 = kvcache.map %a with func.call : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @reduce_c1(%a: !s) {
  // expected-error@+1 {{expected sum, mean, max, min, argmax, count or quantile, got 'total'}}
  %0 = kvcache.reduce total %a over [token] : (!s) -> !kvcache.tensor<head:8, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @reduce_c2(%a: !s) {
  // expected-error@+1 {{input: expected axis 'token.keep', got 'token': the two are different instances; insert gather or relabel}}
  %0 = kvcache.reduce sum %a over [token.keep] : (!s) -> !kvcache.tensor<head:8, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @reduce_c3(%a: !s) {
  // expected-error@+1 {{result: expected axis 'head', got axes [token:?]}}
  %0 = kvcache.reduce sum %a over [token] : (!s) -> !kvcache.tensor<token:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @reduce_c4(%a: !s) {
  // expected-error@+1 {{quantile: expected 'at %q'}}
  %0 = kvcache.reduce quantile %a over [token] : (!s) -> !kvcache.tensor<head:8, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @reduce_c5(%a: !s) {
  // expected-error@+1 {{argmax: expected an index set as result}}
  %0 = kvcache.reduce argmax %a over [token] : (!s) -> !kvcache.tensor<head:8, f32>
  return
}

// -----

!q = !kvcache.tensor<query:?, channel.post:8, f32>
!k = !kvcache.tensor<token:?, channel.pre:8, f32>
func.func @contract_c1(%q: !q, %k: !k) {
  // expected-error@+1 {{right operand: expected axis 'channel.post', got 'channel.pre': the two are in different bases; insert rope, project or relabel}}
  %0 = kvcache.contract %q, %k over [channel.post] : (!q, !k) -> !kvcache.tensor<query:?, token:?, f32>
  return
}

// -----

!q = !kvcache.tensor<head:8, channel.post:8, f32>
!k = !kvcache.tensor<head:4, channel.post:8, f32>
func.func @contract_c2(%q: !q, %k: !k) {
  // expected-error@+1 {{operands disagree on the extent of axis 'head'}}
  %0 = kvcache.contract %q, %k over [channel.post] : (!q, !k) -> !kvcache.tensor<head:8, f32>
  return
}

// -----

!q = !kvcache.tensor<query:?, channel.post:8, f32>
!k = !kvcache.tensor<token:?, channel.post:8, f32>
func.func @contract_c3(%q: !q, %k: !k) {
  // expected-error@+1 {{result: expected axes in the order [query:?, token:?], got [token:?, query:?]}}
  %0 = kvcache.contract %q, %k over [channel.post] : (!q, !k) -> !kvcache.tensor<token:?, query:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @pool_c1(%a: !s, %n: index) {
  // expected-error@+1 {{expected avg, max or a symbol, got "median"}}
  %0 = "kvcache.pool"(%a, %n) <{axis = "token", fn = "median"}> : (!s, index) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @pool_c2(%a: !s, %n: index) {
  // expected-error@+1 {{input: expected axis 'query', got axes [head:8, token:?]}}
  %0 = kvcache.pool avg %a over [query] size %n : (!s, index) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @pool_c3(%a: !s, %n: index) {
  // expected-error@+1 {{result: expected axis 'head', got axes [token:?]}}
  %0 = kvcache.pool avg %a over [token] size %n : (!s, index) -> !kvcache.tensor<token:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @iota_c1(%a: !s) {
  // expected-error@+1 {{operand: expected axis 'query', got axes [head:8, token:?]}}
  %0 = kvcache.iota query of %a : (!s) -> !kvcache.tensor<query:?, i32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @iota_c2(%a: !s) {
  // expected-error@+1 {{expected a result of i32}}
  %0 = kvcache.iota token of %a : (!s) -> !kvcache.tensor<token:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @extent_c1(%a: !s) {
  // expected-error@+1 {{operand: expected axis 'channel', got axes [head:8, token:?]}}
  %0 = kvcache.extent channel of %a : (!s) -> index
  return
}

// -----

!m = !kvcache.tensor<channel.a:8, channel.b:4, f32>
func.func @eigh_c1(%a: !m) {
  // expected-error@+1 {{expected a square matrix in the last two axes, got [channel.a:8, channel.b:4]}}
  %w, %v = kvcache.eigh %a : (!m) -> (!kvcache.tensor<rank:8, f32>, !kvcache.tensor<channel.a:8, rank:8, f32>)
  return
}

// -----

!m = !kvcache.tensor<channel.a:8, channel.b:8, f32>
func.func @eigh_c2(%a: !m) {
  // expected-error@+1 {{eigenvalues: expected a last axis of kind 'rank' and the extent of 'channel.b:8', got [rank:4]}}
  %w, %v = kvcache.eigh %a : (!m) -> (!kvcache.tensor<rank:4, f32>, !kvcache.tensor<channel.a:8, rank:4, f32>)
  return
}

// -----

!m = !kvcache.tensor<channel.a:8, channel.b:8, f32>
func.func @eigh_c3(%a: !m) {
  // expected-error@+1 {{eigenvectors: expected axis 'channel.a', got 'channel.b': the two are in different bases}}
  %w, %v = kvcache.eigh %a : (!m) -> (!kvcache.tensor<rank:8, f32>, !kvcache.tensor<channel.b:8, rank:8, f32>)
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @sort_c1(%s: !s) {
  // expected-error@+1 {{expected descending or ascending, got 'up'}}
  %0 = kvcache.sort up %s along token : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @sort_c2(%s: !s) {
  // expected-error@+1 {{input: expected axis 'query', got axes [head:8, token:?]}}
  %0 = kvcache.sort descending %s along query : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @sort_c3(%s: !s) {
  // expected-error@+1 {{result: expected axis 'head', got axes [token:?]}}
  %0 = kvcache.sort descending %s along token : (!s) -> !kvcache.tensor<token:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @scan_c1(%s: !s) {
  // expected-error@+1 {{expected sum or max, got 'mean'}}
  %0 = kvcache.scan mean %s along token : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @scan_c2(%s: !s) {
  // expected-error@+1 {{input: expected axis 'query', got axes [head:8, token:?]}}
  %0 = kvcache.scan sum %s along query : (!s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @scan_c3(%s: !s) {
  // expected-error@+1 {{result: expected axis 'token', got axes [head:8]}}
  %0 = kvcache.scan sum %s along token reverse : (!s) -> !kvcache.tensor<head:8, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @concat_c1(%s: !s) {
  // expected-error@+1 {{expected two operands with an axis of kind 'layer', got [head:8, token:?] and [head:8, token:?]}}
  %0 = kvcache.concat %s, %s along layer : (!s, !s) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @concat_c2(%s: !s, %t: !kvcache.tensor<head:4, token:?, f32>) {
  // expected-error@+1 {{right operand: expected axis 'head:8', got 'head:4'}}
  %0 = kvcache.concat %s, %t along token : (!s, !kvcache.tensor<head:4, token:?, f32>) -> !s
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @concat_c3(%s: !s) {
  // expected-error@+1 {{result: expected axis 'token', got 'token.all': the two are different instances; insert gather or relabel}}
  %0 = kvcache.concat %s, %s along token : (!s, !s) -> !kvcache.tensor<head:8, token.all:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @blocks_c1(%s: !s, %n: index) {
  // expected-error@+1 {{expected sum, mean, max or min, got 'argmax'}}
  %0 = kvcache.blocks argmax %s along token size %n : (!s, index) -> !kvcache.tensor<head:8, page:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @blocks_c2(%s: !s, %n: index) {
  // expected-error@+1 {{input: expected axis 'query', got axes [head:8, token:?]}}
  %0 = kvcache.blocks mean %s along query size %n : (!s, index) -> !kvcache.tensor<head:8, page:?, f32>
  return
}

// -----

!s = !kvcache.tensor<head:8, token:?, f32>
func.func @blocks_c3(%s: !s, %n: index) {
  // expected-error@+1 {{expected a result with another axis in place of 'token', got [head:8, token:?]}}
  %0 = kvcache.blocks mean %s along token size %n : (!s, index) -> !s
  return
}
