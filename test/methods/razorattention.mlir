// RUN: cat %methods/prelude.mlir %methods/razorattention.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Attention counts the merged entry as often as it stands for others; steps merge as the end of the prompt does.
// CHECK-LABEL: kvcache.method @razorattention
// CHECK: kvcache.phase decode
// CHECK: kvcache.attend %{{.*}} over %{{.*}} causal logit
// CHECK: math.log
// CHECK: kvcache.phase compress {{.*}} on(prompt_end, step_end)
