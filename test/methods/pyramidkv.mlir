// RUN: cat %methods/prelude.mlir %methods/pyramidkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Only the slot that differs from the base is written.
// CHECK-LABEL: kvcache.method @pyramidkv
// CHECK: kvcache.param @base = "snapkv" : method
// CHECK: kvcache.phase allocate (%{{.*}} = layer : index, %{{.*}} = layers : index
// CHECK: kvcache.next budget
// CHECK-NOT: kvcache.phase {{score|select}}
