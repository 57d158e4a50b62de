// RUN: cat %methods/prelude.mlir %methods/zigzagkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// A layer's need crosses to a phase of all layers, whose budgets come back to each layer.
// CHECK-LABEL: kvcache.method @zigzagkv
// CHECK: kvcache.scan sum
// CHECK: kvcache.next score = %{{.*}}, need = %
// CHECK: kvcache.phase allocate (%{{.*}} = need : !
// CHECK-SAME: scope(model)
// CHECK: kvcache.select.alloc proportional
// CHECK: kvcache.phase select
