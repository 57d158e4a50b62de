// RUN: cat %methods/prelude.mlir %methods/dbudgetkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// A reverse scan of squares gives the norm of what stays; the cut decides how much that is.
// CHECK-LABEL: kvcache.method @dbudgetkv
// CHECK: kvcache.phase select {{.*}} when(@order = "position")
// CHECK: kvcache.scan sum %{{.*}} along token reverse
// CHECK: kvcache.select.where
// CHECK: kvcache.phase select {{.*}} when(@order = "h2o")
