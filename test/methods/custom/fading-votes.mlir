// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Votes of the last three queries of each event, square roots added to a column that fades; evicts after every event, ranked by
// the largest of three neighbours, sinks and newest forced.
// CHECK: 11 cases of {{.*}} agree with the reference
!kva = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @fading_votes info {family = "score", paper = "", title = "fading-votes"} {
  kvcache.param @budget = 64 : index
  kvcache.param @decay = 0.9 : f32 in [0.0, 1.0]
  kvcache.state @kv : !kva
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva, %g = @decay : f32) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o, %new = kvcache.attend %q over %c causal stats(sum(p, over(query, group), last(3))) : (!q, !kva) -> (!o, !s)
    %old = kvcache.column acc of %c : (!kva) -> !s
    %sum = kvcache.map "g * a + sqrt(b)" (g = %g, a = %old, b = %new) : (f32, !s, !s) -> !s
    %d = kvcache.set_column %c, acc = %sum : (!kva, !s) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase select (%kv = @kv : !kva, %B = budget : index) on(longer(@kv, budget)) {
    %s = kvcache.column acc of %kv : (!kva) -> !s
    %three = arith.constant 3 : index
    %pooled = kvcache.pool max %s over [token] size %three : (!s, index) -> !s
    %two = arith.constant 2 : index
    %keep = kvcache.select.topk %pooled budget %B first %two last %two : (!s, index, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
