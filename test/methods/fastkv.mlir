// RUN: cat %methods/prelude.mlir %methods/fastkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// One layer decides what deeper ones see, by the votes that also decide what it keeps.
// CHECK-LABEL: kvcache.method @fastkv
// CHECK: kvcache.phase prefill
// CHECK: kvcache.reduce sum %{{.*}} over [head, group]
// CHECK: %[[PASS:.*]] = kvcache.select.topk %{{.*}} budget %{{.*}} last %
// CHECK: kvcache.next out = {{.*}}, rows = %[[PASS]]
// CHECK: kvcache.phase select ({{.*}} = prompt_length : index
