// RUN: cat %methods/prelude.mlir %methods/tome-merge.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Dropped values go to the kept entry with the most similar key; keys are not merged.
// CHECK-LABEL: kvcache.method @"tome-merge"
// CHECK: kvcache.param @base = "knorm" : method
// CHECK: kvcache.phase compress
// CHECK: kvcache.select.complement
// CHECK: kvcache.score.nearest cosine
// CHECK: kvcache.reduce quantile %{{.*}} over [token.ev] at %
// CHECK: kvcache.merge.into
// CHECK: kvcache.scatter add
// CHECK: kvcache.set_column %{{.*}}, v = %{{.*}}, merged = %
