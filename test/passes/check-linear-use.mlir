// RUN: kvasir-opt %s -split-input-file -verify-diagnostics --kvcache-check-linear-use

!kv = !kvcache.cache<append, head:2, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32, acc = f32}>
!s = !kvcache.tensor<head:2, token:?, f32>
func.func @one_update_after_the_read(%kv: !kv) -> !kv {
  %a = kvcache.column acc of %kv : (!kv) -> !s
  %d = kvcache.set_column %kv, acc = %a : (!kv, !s) -> !kv
  return %d : !kv
}

// -----

!kv = !kvcache.cache<append, head:2, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32, acc = f32}>
!s = !kvcache.tensor<head:2, token:?, f32>
func.func @negative_two_updates(%kv: !kv, %a: !s) -> (!kv, !kv) {
  // expected-note @below {{}}
  %d = kvcache.set_column %kv, acc = %a : (!kv, !s) -> !kv
  // expected-error @below {{}}
  %e = kvcache.set_column %kv, acc = %a : (!kv, !s) -> !kv
  return %d, %e : !kv, !kv
}
