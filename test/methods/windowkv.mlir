// RUN: cat %methods/prelude.mlir %methods/windowkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Blocks are scored by the better half of their votes; the scores of a group's first layer come back to all its layers.
// CHECK-LABEL: kvcache.method @windowkv
// CHECK: kvcache.sort descending %{{.*}} along token blocks %
// CHECK: kvcache.phase allocate (%{{.*}} = pages : !
// CHECK-SAME: scope(model)
// CHECK: kvcache.reduce max %{{.*}} over [layer.first]
// CHECK: kvcache.select.expand
// CHECK: kvcache.select.union
