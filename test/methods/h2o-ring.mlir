// RUN: cat %methods/prelude.mlir %methods/h2o-ring.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// In a step one entry more is safe than at the end of the prompt; the rest comes from h2o.
// CHECK-LABEL: kvcache.method @"h2o-ring"
// CHECK: kvcache.param @base = "h2o" : method
// CHECK-NOT: kvcache.phase prefill
// CHECK: kvcache.phase select ({{.*}}) on(prompt_end)
// CHECK: kvcache.phase select ({{.*}}) on(step_end)
// CHECK: arith.addi
// CHECK: kvcache.select.topk
