// RUN: cat %methods/prelude.mlir %methods/pyramidinfer.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// A layer's cache stays whole; the rows of probabilities of decode are a second cache, which is cut with the first.
// CHECK-LABEL: kvcache.method @pyramidinfer
// CHECK: kvcache.state @seen
// CHECK: kvcache.phase prefill
// CHECK: math.cos
// CHECK: %[[PASS:.*]] = kvcache.topk %{{.*}} along query
// CHECK: kvcache.next out = {{.*}}, rows = %[[PASS]]
// CHECK: kvcache.phase compress {{.*}} on(step_end)
// CHECK: kvcache.gather
// CHECK: kvcache.gather
