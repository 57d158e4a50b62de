// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// One list for all heads, of keys before RoPE that are read as rotated to their place in it: each head's part of a row on its own.
// CHECK: {{[0-9]+}} cases of {{.*}} agree with the reference
!raw = !kvcache.cache<append, token:?, {k [head:Hkv, channel.pre:D] = act, v [head:Hkv, channel.v:D] = act, pos = i32}>
!view = !kvcache.cache<append, token:?, {k [head:Hkv, channel.post:D] = act, v [head:Hkv, channel.v:D] = act, pos = i32}>
!st = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @one_list_reindexed info {family = "score", paper = "", title = "one-list-reindexed"} {
  kvcache.param @budget = 64 : index
  kvcache.state @raw : !raw
  kvcache.phase prefill, decode (%q = query : !qpre, %k = key : !kpre, %v = value : !v, %p = pos : !p, %kv = @raw : !raw) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!raw, !kpre, !v, !p) -> !raw
    %at = kvcache.iota token of %c : (!raw) -> !pT
    %view = kvcache.rope %c by %at : (!raw, !pT) -> !view
    // The newest query stands at the index of the newest entry.
    %n = kvcache.extent token of %c : (!raw) -> index
    %m = kvcache.extent query of %q : (!qpre) -> index
    %i = kvcache.iota query of %q : (!qpre) -> !p
    %qp = kvcache.map "i + n - m" (i = %i, n = %n, m = %m) : (!p, index, index) -> !p
    %qr = kvcache.rope %q by %qp : (!qpre, !p) -> !q
    %o = kvcache.attend %qr over %view causal : (!q, !view) -> !o
    kvcache.next out = %o : !o, @raw = %c : !raw
  }
  kvcache.phase query (%q = query : !qpre, %p = pos : !p, %kv = @raw : !raw) {
    %at = kvcache.iota token of %kv : (!raw) -> !pT
    %view = kvcache.rope %kv by %at : (!raw, !pT) -> !view
    %n = kvcache.extent token of %kv : (!raw) -> index
    %qp = kvcache.map "n" (p = %p, n = %n) : (!p, index) -> !p
    %qr = kvcache.rope %q by %qp : (!qpre, !p) -> !q
    %o = kvcache.attend %qr over %view : (!q, !view) -> !o
    kvcache.next out = %o : !o
  }
  kvcache.phase select (%kv = @raw : !raw, %B = budget : index) on(longer(@raw, budget)) {
    %i = kvcache.iota token of %kv : (!raw) -> !pT
    %s = kvcache.map "i" (i = %i) : (!pT) -> !st
    %four = arith.constant 4 : index
    %keep = kvcache.select.topk %s budget %B first %four : (!st, index, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
