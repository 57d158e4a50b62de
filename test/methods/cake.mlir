// RUN: cat %methods/prelude.mlir %methods/cake.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Budgets of every layer for every number of layers seen; the least of them is what a layer holds.
// CHECK-LABEL: kvcache.method @cake
// CHECK: log
// CHECK: kvcache.next score = %{{.*}}, pref = %
// CHECK: kvcache.phase allocate (%{{.*}} = pref : !
// CHECK-SAME: scope(model)
// CHECK: kvcache.reduce min %{{.*}} over [layer.seen]
// CHECK: kvcache.phase select ({{.*}}= prompt_length : index{{.*}} on(step_end)
// CHECK: last(1)
