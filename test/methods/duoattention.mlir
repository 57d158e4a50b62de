// RUN: cat %methods/prelude.mlir %methods/duoattention.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// A layer reads the gates of all layers, and trims after the prompt and after every step.
// CHECK-LABEL: kvcache.method @duoattention
// CHECK: kvcache.artefact @gates : !{{.*}} else -1.0{{.*}}
// CHECK: kvcache.phase select {{.*}} = @gates : !{{.*}}{{.*}} on(prompt_end, step_end)
// CHECK: kvcache.select.topk %{{.*}} budget %{{.*}} first %
