// RUN: kvasir-opt %s --kvcache-compose="parts=scorer,coder set=window=8" | FileCheck %s
// Slots come from the part that defines them, the rest from the defaults; storage of a column comes from the part that
// codes it; the overridden parameter has its new value.
!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
!coded = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<4, tile(channel:D), min_f16, scale_f16, lsb(channel)>, v [channel.v:D] = act, pos = i32}>
kvcache.method @scorer {
  kvcache.param @window = 64 : index in [1, 4096]
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.score.attention %q over %kv causal stats (sum(p, over(query.win, group))) : (!qw, !kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @coder {
  kvcache.state @kv : !coded
}
// CHECK-LABEL: kvcache.method @"scorer+coder.composed"
// CHECK:         kvcache.param @window = 8
// CHECK:         kvcache.state @kv : !{{.*}}
// CHECK:         kvcache.phase score ({{.*}}last_queries(window)
// CHECK-SAME:      on(prompt_end)
// CHECK:         kvcache.phase prefill
// CHECK:           kvcache.append
// CHECK:           kvcache.attend {{.*}} causal
// CHECK:         kvcache.phase decode
// CHECK:         kvcache.phase query
// CHECK-NOT:       kvcache.append
// CHECK:         kvcache.phase select
// CHECK:           kvcache.select.topk
// CHECK:         kvcache.phase compress
// CHECK:           kvcache.gather
