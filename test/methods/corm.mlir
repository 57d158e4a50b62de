// RUN: cat %methods/prelude.mlir %methods/corm.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Any head of the group counts; how many stay follows from the data, for each head, and a budget is not needed.
// CHECK-LABEL: kvcache.method @corm
// CHECK: kvcache.param @budget = -1
// CHECK: kvcache.phase score ({{.*}} = last_queries(window)
// CHECK: kvcache.score.reduce sum {{.*}} causal along [group]
// CHECK: arith.cmpf oge
// CHECK: kvcache.phase select ({{.*}}) on(prompt_end, step_end)
// CHECK: math.ctpop
// CHECK: %[[STAY:.*]] = kvcache.reduce count
// CHECK: %[[B:.*]] = kvcache.map {{.*}}%[[STAY]]
// CHECK: kvcache.topk %{{.*}} count %[[B]] along token
