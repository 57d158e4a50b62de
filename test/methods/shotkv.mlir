// RUN: cat %methods/prelude.mlir %methods/shotkv.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Whole shots are chosen once for all layers, by attention of all of them; a step ranks entries by its own row, for all heads.
// CHECK-LABEL: kvcache.method @shotkv
// CHECK: kvcache.phase score ({{.*}} = last_queries(window)
// CHECK: kvcache.score.reduce sum {{.*}} along [query.win, group]
// CHECK: kvcache.reduce sum %{{.*}} over [head]
// CHECK: kvcache.phase allocate {{.*}} = request(shots) {{.*}} = request(keep) {{.*}} scope(model)
// CHECK: kvcache.reduce sum %{{.*}} over [layer]
// CHECK: kvcache.select.fit %{{.*}} sizes %{{.*}} total %
// CHECK: kvcache.phase decode
// CHECK: kvcache.score.reduce sum {{.*}} along [query, group]
// CHECK: kvcache.topk %{{.*}} along token : {{.*}}
