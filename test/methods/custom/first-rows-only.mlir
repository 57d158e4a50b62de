// RUN: echo "In the beginning God created the heaven" > p.txt
// RUN: not %kvasir run %s --prompt p.txt 2>&1 | FileCheck %s
// RUN: not %kvasir run %s --prompt p.txt --target reference 2>&1 | FileCheck %s
// REQUIRES: kvasir
// Passes on the first three rows of a prompt, so the newest is lost: nobody may do that.
// CHECK: error: method '{{.*}}first-rows-only{{(.mlir)?}}', layer 0: the last row of the prompt is not passed on
!t = !kvcache.tensor<query:?, f32>
!pass = !kvcache.index<query.keep:? of query>
kvcache.method @"first-rows-only" info {family = "score", title = "the first rows only"} {
  kvcache.state @kv : !kv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    %old = kvcache.map "0 - p" (p = %p) : (!p) -> !t
    %n = arith.constant 3 : index
    %i = kvcache.topk %old count %n along query : (!t, index) -> !pass
    kvcache.next out = %o : !o, @kv = %c : !kv, rows = %i : !pass
  }
}
