// RUN: cat %methods/prelude.mlir %methods/ada-snapkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Pooling comes after the mean over the group here, unlike in the method it builds on.
// CHECK-LABEL: kvcache.method @"ada-snapkv"
// CHECK: %[[M:.*]] = kvcache.reduce mean %{{.*}} over [group]
// CHECK: kvcache.pool pooling %[[M]]
// CHECK: kvcache.phase allocate
// CHECK: kvcache.select.alloc global_topk
// CHECK: math.roundeven
// CHECK: kvcache.phase select
