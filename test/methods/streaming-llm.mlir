// RUN: cat %methods/prelude.mlir %methods/streaming-llm.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Two forms of one method: a parameter chooses the state and the phases that exist.
// CHECK-LABEL: kvcache.method @"streaming-llm"
// CHECK: kvcache.state @kv : !{{.*}} when(@positions = "original")
// CHECK: kvcache.state @raw : !{{.*}} when(@positions = "cache")
// CHECK: kvcache.select.topk %{{.*}} budget %{{.*}} first %
// CHECK: kvcache.phase prefill, decode {{.*}} when(@positions = "cache")
// CHECK: kvcache.rope
// CHECK: kvcache.attend
