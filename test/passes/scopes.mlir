// RUN: kvasir-opt %s --kvcache-compose="parts=a,b" | FileCheck %s --check-prefix=COMPOSED
// RUN: kvasir-opt %s --pass-pipeline="builtin.module(kvcache-compose{parts=a,b},kvcache.method(kvcache-specialize{layers=3 query-heads=4 kv-heads=2 head-dim=64},kvcache-form-programs))" | FileCheck %s
// The end of a prompt becomes three programs. What crosses has the axis of layers in the one that runs once.
// COMPOSED: !l_t = !kvcache.tensor<layer:L, f32>
// COMPOSED: kvcache.method @"a+b.composed"
// COMPOSED: kvcache.phase allocate (%{{.*}} = mass : !l_t, %{{.*}} = budget : index) scope(model)
// CHECK-DAG: ![[ALL:.*]] = !kvcache.tensor<layer:3, f32>
// CHECK-DAG: ![[ALLI:.*]] = !kvcache.tensor<layer:3, i32>
// CHECK-DAG: ![[ONE:.*]] = !kvcache.tensor<f32>
// CHECK-DAG: ![[ONEI:.*]] = !kvcache.tensor<i32>
// CHECK: kvcache.method @"a+b.composed"
// CHECK: kvcache.phase prompt_score (%{{.*}} = @kv
// CHECK: kvcache.next mass = %{{.*}} : ![[ONE]], score = %{{.*}}
// CHECK: kvcache.phase prompt_model (%{{.*}} = mass : ![[ALL]], %{{.*}} = budget : index) scope(model)
// CHECK: kvcache.next budget = %{{.*}} : ![[ALLI]]
// CHECK: kvcache.phase prompt_end (%{{.*}} = score : {{.*}}, %{{.*}} = budget : ![[ONEI]], %{{.*}} = @kv

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  kvcache.phase allocate (%m = mass : !mL, %B = budget : index) scope(model) {
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !i) {
    %k = kvcache.select.topk %s budget %b : (!s, !i) -> !keep
    kvcache.next keep = %k : !keep
  }
}
kvcache.method @b {
}
