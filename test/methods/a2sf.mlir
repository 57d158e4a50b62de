// RUN: cat %methods/prelude.mlir %methods/a2sf.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Rows are weighted by their age, and what was there ages with every event; two ways to decode.
// CHECK-LABEL: kvcache.method @a2sf
// CHECK: kvcache.phase prefill, decode
// CHECK: kvcache.score.reduce sum {{.*}} over %{{.*}} causal along [query, group]
// CHECK: kvcache.set_column %{{.*}}, acc = %
// CHECK: kvcache.phase select ({{.*}}@decode : index{{.*}}) on(longer(@kv, budget))
