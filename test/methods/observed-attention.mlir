// RUN: cat %methods/prelude.mlir %methods/observed-attention.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Sums of the prompt's rows alone, over the rows that saw the entry, ranked once.
// CHECK-LABEL: kvcache.method @"observed-attention"
// CHECK: kvcache.phase prefill (
// CHECK: stats(sum(p, over(query)))
// CHECK: kvcache.reduce mean %{{.*}} over [group]
// CHECK: kvcache.phase score ({{.*}}) on(prompt_end)
// CHECK: arith.divf
// CHECK: kvcache.phase select
