// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Heads in which many entries are hot get more of them: scalar floats, a count of an i1 tensor, an arg-max that picks one score of
// each head, a budget for each head.
// CHECK: 11 cases of {{.*}} agree with the reference
!b = !kvcache.tensor<head:Hkv, token:?, i1>
kvcache.method @hot_heads info {family = "allocate", paper = "", title = "hot-heads"} {
  kvcache.param @budget = 64 : index
  kvcache.param @share = 0.4 : f32 in [0.0, 1.0]
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(16) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %n = arith.constant 7 : index
    %p = kvcache.pool avg %votes over [token] size %n : (!sg, index) -> !sg
    %s = kvcache.reduce max %p over [group] : (!sg) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase allocate (%s = score : !s, %B = budget : index, %T = length : index, %f = @share : f32) {
    %m = kvcache.reduce mean %s over [token] : (!s) -> !h
    %hot = kvcache.map "s > 2 * m" (s = %s, m = %m) : (!s, !h) -> !b
    %c = kvcache.reduce count %hot over [token] : (!b) -> !hb
    %total = kvcache.reduce sum %c over [head] : (!hb) -> !kvcache.tensor<i32>
    %best = kvcache.reduce argmax %s over [token] : (!s) -> !kvcache.index<head:Hkv of token>
    %top = kvcache.gather %s at %best : (!s, !kvcache.index<head:Hkv of token>) -> !h
    %Bi = arith.index_cast %B : index to i32
    %Bf = arith.sitofp %Bi : i32 to f32
    %fB = arith.mulf %Bf, %f : f32
    %b = kvcache.map "min(T, max(1, floor(fB + (1 - f) * B * c / max(total, 1)))) + 0 * top" (T = %T, fB = %fB, f = %f, B = %B, c = %c, total = %total, top = %top) : (index, f32, f32, index, !hb, !kvcache.tensor<i32>, !h) -> !hb
    kvcache.next budget = %b : !hb
  }
  kvcache.phase select (%s = score : !s, %b = budget : !hb) {
    %two = arith.constant 2 : index
    %keep = kvcache.select.topk %s budget %b first %two last %two : (!s, !hb, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
