// RUN: cat %methods/prelude.mlir %methods/tova.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Only the newest row votes, and the kept set has no head axis.
// CHECK-LABEL: kvcache.method @tova
// CHECK: kvcache.attend {{.*}} stats(sum(p, over(query), last(1)))
// CHECK: kvcache.reduce mean %{{.*}} over [group]
// CHECK: kvcache.phase select
// CHECK: kvcache.reduce mean %{{.*}} over [head]
// CHECK: kvcache.next keep = %{{.*}} : !
