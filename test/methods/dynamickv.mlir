// RUN: cat %methods/prelude.mlir %methods/dynamickv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// The best scores of the layers seen so far are counted for every number of layers; a layer holds the least it is granted.
// CHECK-LABEL: kvcache.method @dynamickv
// CHECK: kvcache.phase allocate (%{{.*}} = score : !
// CHECK-SAME: scope(model)
// CHECK: kvcache.select.alloc global_topk %{{.*}} total %{{.*}} upto %{{.*}} along layer
// CHECK: kvcache.reduce min %{{.*}} over [layer.seen]
// CHECK: kvcache.phase select
