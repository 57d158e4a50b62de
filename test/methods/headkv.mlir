// RUN: cat %methods/prelude.mlir %methods/headkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Budgets of all heads from a table that calibration makes, made once for all layers.
// CHECK-LABEL: kvcache.method @headkv
// CHECK: kvcache.artefact @head_scores : {{.*}} else 1.0{{.*}}
// CHECK: kvcache.phase allocate (%{{.*}} = @head_scores : !{{.*}}{{.*}} scope(model)
// CHECK: kvcache.next budget = %{{.*}} : !{{.*}}
