// RUN: cat %methods/prelude.mlir %methods/think.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// The channels that stay are chosen per row head, along the channels of the keys; the newest keys keep them all.
// CHECK-LABEL: kvcache.method @think
// CHECK: kvcache.phase compress (%{{.*}} = last_queries(window)
// CHECK: %[[KEPT:.*]] = kvcache.topk %{{.*}} count %{{.*}} along channel.post
// CHECK: kvcache.scatter set %{{.*}} into %{{.*}} at %[[KEPT]]
// CHECK: kvcache.set_column %{{.*}}, k = %
