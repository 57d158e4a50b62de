// RUN: %kvasir verify %s --require-fused | FileCheck %s
// RUN: sed 's/causal along \[query.win, group, head\]/causal mean [head] along [query.win, group]/' %s > mean.mlir
// RUN: not %kvasir compile mean.mlir -o mean.kvx 2>&1 | FileCheck %s --check-prefix=MEAN
// REQUIRES: kvasir
// Statistics along heads, which are tasks of their own: sums and the largest value. And a map of several results.
// CHECK: 11 cases of {{.*}} agree with the reference
// MEAN: error: mean.mlir:{{[0-9:]+}}: cpu: probabilities are averaged over the query heads of a group alone, expected mean [group], got mean [head]
!t = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @across_heads info {family = "score", paper = "", title = "across heads"} {
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(8) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %sum = kvcache.score.reduce sum "p" of %q over %kv causal along [query.win, group, head] : (!qw, !kv) -> !t
    %most = kvcache.score.reduce max "p * p" of %q over %kv causal along [query.win, group, head] : (!qw, !kv) -> !t
    %a, %b = kvcache.map "root = sqrt(most); few = sum < root; select(few, root, sum); root / (sum + 1)" (sum = %sum, most = %most) : (!t, !t) -> (!t, !t)
    %s = kvcache.map "a + cos(b)" (a = %a, b = %b) : (!t, !t) -> !t
    kvcache.next score = %s : !t
  }
  kvcache.phase select (%s = score : !t, %B = budget : index) {
    %keep = kvcache.select.topk %s budget %B : (!t, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
