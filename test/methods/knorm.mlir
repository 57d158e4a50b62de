// RUN: cat %methods/prelude.mlir %methods/knorm.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// The smallest norms are the best scores; short prompts get a budget of their own length.
// CHECK-LABEL: kvcache.method @knorm
// CHECK: kvcache.phase score ({{.*}}) layers(except(@skip_layers)) on(prompt_end)
// CHECK: %[[N:.*]] = kvcache.score.norm %{{.*}} over [channel.post]
// CHECK: kvcache.map %[[N]]
// CHECK: arith.negf
// CHECK: kvcache.phase allocate
// CHECK: arith.cmpi ult
