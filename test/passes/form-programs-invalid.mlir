// RUN: kvasir-opt %s -split-input-file -verify-diagnostics --pass-pipeline="builtin.module(kvcache.method(kvcache-form-programs))"

!s = !kvcache.tensor<head:2, token:?, f32>
!keep = !kvcache.index<head:2, token.keep:? of token>
kvcache.method @no_score {
  // expected-error @below {{phase needs 'score', which no earlier phase of the event yields}}
  kvcache.phase select (%s = score : !s, %B = budget : index) {
    %i = kvcache.select.topk %s budget %B : (!s, index) -> !keep
    kvcache.next keep = %i : !keep
  }
}

// -----

!s = !kvcache.tensor<head:2, token:?, f32>
!t = !kvcache.tensor<token:?, f32>
!keep = !kvcache.index<token.keep:? of token>
!kv = !kvcache.cache<append, head:2, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32, acc = f32}>
kvcache.method @other_type {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
  // expected-error @below {{phase takes 'score' as}}
  kvcache.phase select (%s = score : !t, %B = budget : index) {
    %i = kvcache.select.topk %s budget %B : (!t, index) -> !keep
    kvcache.next keep = %i : !keep
  }
}
