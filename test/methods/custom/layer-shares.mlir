// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Layers whose scores are spread out get more entries: a measure of each layer under a name of its own, shares of one
// total over all layers, and a budget that comes back to its layer.
// CHECK: 11 cases of {{.*}} agree with the reference
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!bL = !kvcache.tensor<layer:L, i32>
kvcache.method @layer_shares info {family = "allocate", paper = "", title = "layer-shares"} {
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(8) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %s = kvcache.reduce sum %votes over [group] : (!sg) -> !s
    %roots = kvcache.map "sqrt(s)" (s = %s) : (!s) -> !s
    %spread = kvcache.reduce sum %roots over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, spread = %spread : !m
  }
  kvcache.phase allocate (%m = spread : !mL, %B = budget : index, %L = layers : index, %T = length : index) scope(model) {
    %one = arith.constant 1 : index
    %total = arith.muli %B, %L : index
    %b = kvcache.select.alloc proportional %m total %total floor %one cap %T : (!mL, index, index, index) -> !bL
    kvcache.next budget = %b : !bL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !kvcache.tensor<i32>) {
    %last = arith.constant 4 : index
    %keep = kvcache.select.topk %s budget %b last %last : (!s, !kvcache.tensor<i32>, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
