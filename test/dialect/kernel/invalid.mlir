// RUN: kvasir-opt %s -split-input-file -verify-diagnostics

!s = !kvcache.tensor<head:2, token:?, f32>
!h = !kvcache.tensor<head:2, f32>
func.func @kernel_c1(%s: !s) -> !s {
  // expected-error @below {{expects a block argument of the same type for each input}}
  %r = "kvcache.kernel"(%s) ({
  ^bb0(%a: !h):
    %b = kvcache.map "x" (x = %a) : (!h) -> !s
    kvcache.kernel.yield %b : !s
  }) : (!s) -> !s
  return %r : !s
}

// -----

!s = !kvcache.tensor<head:2, token:?, f32>
!h = !kvcache.tensor<head:2, f32>
func.func @kernel_c2(%h: !h) -> !s {
  // expected-error @below {{expects a yielded value of the same type for each result}}
  %r = kvcache.kernel (%a = %h : !h) -> !s {
    kvcache.kernel.yield %a : !h
  }
  return %r : !s
}
