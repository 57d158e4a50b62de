// RUN: kvasir-opt %s --kvcache-compose="parts=voter" | FileCheck %s --check-prefix=KV
// RUN: kvasir-opt %s --kvcache-compose="parts=voter set=granularity=query_head" | FileCheck %s --check-prefix=EACH
// `group:Gs` is gone with kv_head, and what runs over it finds nothing there; with query_head it is the group, over which
// nothing is reduced any more.
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!sg = !kvcache.tensor<head:Hkv, group:G, token:?, f32>
!sG = !kvcache.tensor<head:Hkv, group:Gs, token:?, f32>
!hbG = !kvcache.tensor<head:Hkv, group:Gs, i32>
!keepG = !kvcache.index<head:Hkv, group:Gs, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, group:Gs, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
// KV-LABEL: kvcache.method @voter.composed
// EACH-LABEL: kvcache.method @voter.composed
kvcache.method @voter {
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.state @kv : !kv
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    // KV: stats(sum(p, over(query, group)))
    // EACH: stats(sum(p, over(query)))
    %o, %a = kvcache.attend %q over %c causal stats(sum(p, over(query, group))) : (!q, !kv) -> (!o, !sG)
    %d = kvcache.set_column %c, acc = %a : (!kv, !sG) -> !kv
    kvcache.next out = %o : !o, @kv = %d : !kv
  }
  kvcache.phase score (%q = last_queries(4) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %a = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    // KV: kvcache.reduce mean %{{.*}} over [group]
    // EACH-NOT: kvcache.reduce
    %s = kvcache.reduce mean %a over [group] : (!sg) -> !sG
    // EACH: kvcache.next score
    kvcache.next score = %s : !sG
  }
  kvcache.phase select (%s = score : !sG, %B = budget : index) {
    // KV: %[[HEADS:.*]] = kvcache.extent head
    // KV-NEXT: %[[ONE:.*]] = arith.constant 1 : index
    // KV-NEXT: arith.muli %[[HEADS]], %[[ONE]]
    // EACH: kvcache.extent group
    %h = kvcache.extent head of %s : (!sG) -> index
    %g = kvcache.extent group of %s : (!sG) -> index
    %n = arith.muli %h, %g : index
    %c = kvcache.select.alloc global_topk %s total %n : (!sG, index) -> !hbG
    %keep = kvcache.select.topk %s budget %c : (!sG, !hbG) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
