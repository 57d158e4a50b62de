// RUN: cat %methods/prelude.mlir %methods/snapkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// The window does not leak into the pool: it stops at T - W.
// CHECK-LABEL: kvcache.method @snapkv
// CHECK: kvcache.phase score (%[[Q:.*]] = last_queries(window) : {{.*}}, %[[KV:.*]] = @kv {{.*}}, %[[T:.*]] = length : index, %[[W:.*]] = @window
// CHECK: %[[S:.*]] = arith.subi %[[T]], %
// CHECK: kvcache.score.attention %[[Q]] over %[[KV]] causal stats(sum(p, over(query.win)))
// CHECK: kvcache.pool pooling %{{.*}} over [token] size %{{.*}} upto %[[S]]
// CHECK: kvcache.select.topk %{{.*}} budget %{{.*}} last %
