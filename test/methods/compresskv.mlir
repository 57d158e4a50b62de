// RUN: cat %methods/prelude.mlir %methods/compresskv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Each layer reads its own voting heads; the importance is about all layers. One selection for all heads.
// CHECK-LABEL: kvcache.method @compresskv
// CHECK: kvcache.artefact @voting_heads : !{{.*}} else 1.0{{.*}}
// CHECK: kvcache.artefact @importance : !{{.*}} from file else 1.0{{.*}}
// CHECK: kvcache.phase score {{.*}} = @voting_heads : !{{.*}}
// CHECK: kvcache.phase allocate (%{{.*}} = @importance : !{{.*}}{{.*}} scope(model)
// CHECK: kvcache.select.topk %{{.*}} : {{.*}} -> !{{.*}}
