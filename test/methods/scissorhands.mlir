// RUN: cat %methods/prelude.mlir %methods/scissorhands.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Rows below the mean share, of the mean over a group, become bits of a ring; those with the most bits leave.
// CHECK-LABEL: kvcache.method @scissorhands
// CHECK: kvcache.param @words = "(window + 23) / 24"
// CHECK: kvcache.phase score ({{.*}} = last_queries(window)
// CHECK: kvcache.score.reduce sum {{.*}} causal mean [group] along []
// CHECK: arith.cmpf olt
// CHECK: kvcache.contract
// CHECK: kvcache.phase decode
// CHECK: kvcache.score.reduce max {{.*}} mean [group] along [query]
// CHECK: kvcache.phase select ({{.*}}) on(prompt_end, step_end)
// CHECK: math.ctpop
// CHECK: kvcache.select.complement
