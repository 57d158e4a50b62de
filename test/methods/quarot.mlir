// RUN: cat %methods/prelude.mlir %methods/quarot.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Rotation and codes stand in the type; the group defaults to the whole row.
// CHECK: k [channel.post:D] = rotated<affine<bits, tile(channel:group), zp_i16, scale_f16, clip(clip), lsb(channel)>, hadamard>
// CHECK-LABEL: kvcache.method @quarot
// CHECK: kvcache.param @group = "D" : i64
