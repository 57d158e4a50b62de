// RUN: cat %methods/prelude.mlir %methods/scope.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// The current row votes; what is generated is cut after every step, in one of three modes.
// CHECK-LABEL: kvcache.method @scope
// CHECK: kvcache.phase decode
// CHECK: kvcache.set_column %{{.*}}, vote = %
// CHECK: kvcache.phase allocate ({{.*}} = @mode : index{{.*}} on(step_end)
// CHECK: kvcache.phase select {{.*}} on(step_end)
// CHECK: kvcache.select.topk %{{.*}} budget %{{.*}} last %
