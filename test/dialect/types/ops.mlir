// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
// Every term of the storage grammar, every extent, and values without axes.

// CHECK-DAG: !kvcache.tensor<f32>
// CHECK-DAG: !kvcache.tensor<head:Hkv, token:?, channel.post:128, recent<affine<bits, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(residual)>>
func.func private @tensors(!kvcache.tensor<f32>, !kvcache.tensor<head:Hkv, token:?, channel.post:128, recent<affine<bits, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(residual)>>)
// CHECK-DAG: !kvcache.tensor<token:?, channel.v:D, sinks<rotated<affine<4, tile(channel:64), zp_i16, scale_f16, clip(0.95), lsb(channel)>, hadamard>, 4>>
func.func private @rotated(!kvcache.tensor<token:?, channel.v:D, sinks<rotated<affine<4, tile(channel.v:64), zp_i16, scale_f16, clip(0.95), lsb(channel)>, hadamard>, 4>>)
// CHECK-DAG: !kvcache.tensor<token:?, channel.v:D, factor<rank_v, act>>
func.func private @factor(!kvcache.tensor<token:?, channel.v:D, factor<rank_v, act>>)
// CHECK-DAG: !kvcache.index<head:8, token.ev:? of token.keep>
func.func private @index(!kvcache.index<head:8, token.ev:? of token.keep>)
// CHECK-DAG: !kvcache.index<of token>
func.func private @position(!kvcache.index<of token>)
// CHECK-DAG: !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = f16, pos = i32, acc = f32}>
func.func private @cache(!kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = f16, pos = i32, acc = f32}>)
// CHECK-DAG: !kvcache.tensor<token:?, head:8, channel.v:D, affine<4, tile(token:n, head:*, channel:16 of 64), none, scale_f16, lsb(channel)>>
func.func private @tiles(!kvcache.tensor<token:?, head:8, channel.v:D, affine<4, tile(token:n, head:*, channel.v:16 of 64), none, scale_f16, lsb(channel)>>)
