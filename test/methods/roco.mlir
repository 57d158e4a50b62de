// RUN: cat %methods/prelude.mlir %methods/roco.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Probabilities are averaged over a group before they are squared; the lowest means of those that vary least leave.
// CHECK-LABEL: kvcache.method @roco
// CHECK: kvcache.phase prefill, decode ({{.*}}) on(chunks(stride)) when(@mode = ["encoding", "auto"])
// CHECK: kvcache.score.reduce sum {{.*}} mean [group] along [query]
// CHECK: kvcache.score.reduce sum {{.*}} mean [group] along [query]
// CHECK: arith.mulf
// CHECK: %[[CALM:.*]] = kvcache.topk
// CHECK: kvcache.scatter set %{{.*}} at %[[CALM]]
// CHECK: %[[DROP:.*]] = kvcache.topk
// CHECK: kvcache.select.complement %[[DROP]]
// CHECK: kvcache.phase decode ({{.*}}) when(@mode = "decoding")
// CHECK: kvcache.select.complement
