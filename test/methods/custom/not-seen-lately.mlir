// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Two more columns that every event updates; an entry leaves when none has looked at it for a while, at the end of the prompt and of
// every step.
// CHECK: 11 cases of {{.*}} agree with the reference
!kva = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, age = i32, seen = f32}>
!iT = !kvcache.tensor<head:Hkv, token:?, i32>
kvcache.method @not_seen_lately info {family = "select", paper = "", title = "not-seen-lately"} {
  kvcache.param @life = 40 : index in [1, 100000]
  kvcache.state @kv : !kva
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o, %new = kvcache.attend %q over %c causal stats(sum(p, over(query, group))) : (!q, !kva) -> (!o, !s)
    %age = kvcache.column age of %c : (!kva) -> !iT
    %seen = kvcache.column seen of %c : (!kva) -> !s
    %older = kvcache.map "select(p > 0.05, 0, a + 1)" (p = %new, a = %age) : (!s, !iT) -> !iT
    %more = kvcache.map "max(p, s)" (p = %new, s = %seen) : (!s, !s) -> !s
    %d = kvcache.set_column %c, age = %older, seen = %more : (!kva, !iT, !s) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase select (%kv = @kv : !kva, %L = @life : index) on(prompt_end, step_end) {
    %age = kvcache.column age of %kv : (!kva) -> !iT
    %keep = kvcache.select.where "age < L" (age = %age, L = %L) along token : (!iT, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
