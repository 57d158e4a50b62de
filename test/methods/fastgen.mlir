// RUN: cat %methods/prelude.mlir %methods/fastgen.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Classes come from ids; the policy of a head from masses over the whole prompt; a step drops one entry at most, by what the
// newest rows gave it.
// CHECK: seen [code:history] = f32
// CHECK-LABEL: kvcache.method @fastgen
// CHECK: kvcache.phase prefill {{.*}} = ids {{.*}} = request(special) {{.*}} = request(punctuation)
// CHECK: kvcache.phase compress {{.*}} on(prompt_end)
// CHECK: kvcache.score.reduce sum {{.*}} mean [group] along [query.win]
// CHECK: kvcache.topk %{{.*}} along token
// CHECK: kvcache.score.reduce sum {{.*}} mean [group] along []
// CHECK: kvcache.select.where
// CHECK: kvcache.phase decode {{.*}} = ids
// CHECK: kvcache.topk %{{.*}} along token
// CHECK: kvcache.select.complement
