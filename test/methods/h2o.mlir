// RUN: cat %methods/prelude.mlir %methods/h2o.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Accumulated over query rows and the group, in prefill and in decode alike.
// CHECK-LABEL: kvcache.method @h2o
// CHECK: kvcache.phase prefill, decode
// CHECK: %[[O:.*]], %[[P:.*]] = kvcache.attend {{.*}} causal stats(sum(p, over(query, group)))
// CHECK: kvcache.column acc
// CHECK: kvcache.set_column %{{.*}}, acc = %
// CHECK: kvcache.phase select ({{.*}}) on(longer(@kv, budget))
// CHECK: %[[R:.*]] = arith.divui
// CHECK: kvcache.select.topk %{{.*}} budget %{{.*}} last %[[R]]
