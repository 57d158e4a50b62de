// RUN: cat %methods/prelude.mlir %methods/pca.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Basis and mean of each side come from the calibrate phase.
// CHECK-LABEL: kvcache.method @pca
// CHECK: kvcache.state @kv : !{{.*}} fixed {k = [@k_basis, @k_mean], v = [@v_basis, @v_mean]}
// CHECK: kvcache.phase calibrate
// CHECK: kvcache.contract %{{.*}}, %{{.*}} over [token]
// CHECK: kvcache.eigh
// CHECK: kvcache.slice %{{.*}} along rank
// CHECK: kvcache.next @k_mean
