// RUN: cat %methods/prelude.mlir %methods/quest.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// A step and a question read the pages that their own queries choose; the prompt is attended by default.
// CHECK-LABEL: kvcache.method @quest
// CHECK-NOT: kvcache.phase prefill
// CHECK: kvcache.phase decode
// CHECK: %[[READ:.*]] = kvcache.select.expand
// CHECK: kvcache.attend %{{.*}} over %{{.*}} at %[[READ]] causal
// CHECK: kvcache.phase query
// CHECK: kvcache.attend %{{.*}} over %{{.*}} at %
