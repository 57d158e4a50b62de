// RUN: kvasir-opt %s --verify-roundtrip | FileCheck %s
!s = !kvcache.tensor<head:2, token:?, f32>

// CHECK-LABEL: func @kernel
// CHECK:         kvcache.kernel (%[[A:.*]] = %arg0 : !{{.*}}) -> !{{.*}} {
// CHECK:           %[[B:.*]] = kvcache.map %[[A]]
// CHECK:           kvcache.kernel.yield %[[B]]
func.func @kernel(%s: !s) -> !s {
  %r = kvcache.kernel (%a = %s : !s) -> !s {
    %b = kvcache.map "2 * x" (x = %a) : (!s) -> !s
    kvcache.kernel.yield %b : !s
  }
  return %r : !s
}
