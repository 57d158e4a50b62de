// RUN: cat %methods/prelude.mlir %methods/kivi.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// The types are the method: no phase.
// CHECK: k [channel.post:D] = recent<affine<k_bits, tile(token:group_size), min_f16, scale_f16, lsb(token)>, keep(0), block(residual_length)>, v [channel.v:D] = recent<affine<v_bits, tile(channel:group_size), min_f16, scale_f16, lsb(channel)>, keep(residual_length), block(1)>
// CHECK-LABEL: kvcache.method @kivi
// CHECK-NOT: kvcache.phase
