// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!kk = !kvcache.tensor<head:Hkv, token.keep:?, channel.post:D, act>
!ke = !kvcache.tensor<head:Hkv, token.ev:?, channel.post:D, act>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!to = !kvcache.index<head:Hkv, token.ev:? of token.keep>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, pos = i32}>

// CHECK-LABEL: @rows
func.func @rows(%s: !s, %k: !k, %kv: !kv, %all: !kvcache.index<token.keep:? of token>, %n: index, %c: i64) {
  // CHECK: kvcache.topk %{{.*}} count %{{.*}} along token : (!{{.*}}, index) -> !
  %i = kvcache.topk %s count %n along token : (!s, index) -> !keep
  // CHECK: kvcache.gather %{{.*}} at %
  %kk = kvcache.gather %k at %i : (!k, !keep) -> !kk
  // One index set for all heads of the cache.
  // CHECK: kvcache.gather %{{.*}} at %
  %cut = kvcache.gather %kv at %all : (!kv, !kvcache.index<token.keep:? of token>) -> !kv
  // CHECK: kvcache.slice %{{.*}} along token from %{{.*}} size %
  %part = kvcache.slice %k along token from %c size %n : (!k, i64, index) -> !k
  // CHECK: kvcache.relabel
  %r = kvcache.relabel %kk : (!kk) -> !k
  return
}

// CHECK-LABEL: @scatter
func.func @scatter(%src: !ke, %dst: !kk, %at: !to) -> !kk {
  // The new axis of an assignment takes the place of its domain.
  // CHECK: kvcache.gather %{{.*}} at %
  %g = kvcache.gather %dst at %at : (!kk, !to) -> !ke
  // CHECK: kvcache.scatter add %{{.*}} into %{{.*}} at %
  %0 = kvcache.scatter add %src into %dst at %at : (!ke, !kk, !to) -> !kk
  return %0 : !kk
}
