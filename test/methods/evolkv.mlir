// RUN: cat %methods/prelude.mlir %methods/evolkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// A searched vector, scaled to the budget.
// CHECK-LABEL: kvcache.method @evolkv
// CHECK: kvcache.artefact @budgets : !{{.*}} from file else 1.0{{.*}}
// CHECK: kvcache.phase allocate (%{{.*}} = @budgets : {{.*}} scope(model)
// CHECK: kvcache.select.alloc proportional %{{.*}} total %{{.*}} floor %{{.*}} cap %
