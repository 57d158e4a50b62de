// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// One list for all heads that is cut after every event, by the attention that all heads have paid to its entries so far.
// CHECK: {{[0-9]+}} cases of {{.*}} agree with the reference
!rows = !kvcache.cache<append, token:?, {k [head:Hkv, channel.post:D] = act, v [head:Hkv, channel.v:D] = act, pos = i32, acc = f32}>
!st = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @one_list_steps info {family = "score", paper = "", title = "one-list-steps"} {
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !rows
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !rows) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!rows, !k, !v, !p) -> !rows
    %o, %new = kvcache.attend %q over %c causal stats(sum(p, over(query, group))) : (!q, !rows) -> (!o, !s)
    %paid = kvcache.reduce sum %new over [head] : (!s) -> !st
    %old = kvcache.column acc of %c : (!rows) -> !st
    %sum = kvcache.map %old, %paid with arith.addf : (!st, !st) -> !st
    %d = kvcache.set_column %c, acc = %sum : (!rows, !st) -> !rows
    kvcache.next out = %o : !o, @kv = %d : !rows
  }
  kvcache.phase select (%kv = @kv : !rows, %B = budget : index) on(longer(@kv, budget)) {
    %s = kvcache.column acc of %kv : (!rows) -> !st
    %keep = kvcache.select.topk %s budget %B : (!st, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
