// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// What comes with a request, in every form: ids of rows, a table along rows, along entries, as long as it is, a number.
// After the prompt entries of odd ids stay, those that the request keeps, and the question; a step whose id is odd leaves.
// CHECK: 11 cases of {{.*}} agree with the reference
!kvm = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, odd = i32, flag = i32}>
!i = !kvcache.tensor<head:Hkv, token:?, i32>
!part = !kvcache.tensor<segment:?, i32>
!one = !kvcache.tensor<i32>
kvcache.method @marked info {family = "select", paper = "", title = "Marked rows"} {
  kvcache.state @kv : !kvm
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %id = ids : !p, %f = request(keep) : !p, %kv = @kv : !kvm) {
    %odd = kvcache.map "id - 2 * floor(id / 2)" (id = %id) : (!p) -> !p
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p, odd = %odd, flag = %f : (!kvm, !k, !v, !p, !p, !p) -> !kvm
    %o = kvcache.attend %q over %c causal : (!q, !kvm) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kvm
  }
  kvcache.phase select (%kv = @kv : !kvm, %T = length : index, %n = request(question) : index, %keep = request(keep) : !pT, %parts = request(segments) : !part) on(prompt_end) {
    %odd = kvcache.column odd of %kv : (!kvm) -> !i
    %flag = kvcache.column flag of %kv : (!kvm) -> !i
    %i = kvcache.iota token of %kv : (!kvm) -> !pT
    %end = kvcache.reduce min %parts over [segment] : (!part) -> !one
    %stay = kvcache.select.where "odd == 1 | (flag + keep == 2 & i < end) | i >= T - n" (odd = %odd, flag = %flag, keep = %keep, i = %i, end = %end, T = %T, n = %n) along token : (!i, !i, !pT, !pT, !one, index, index) -> !keep
    kvcache.next keep = %stay : !keep
  }
  kvcache.phase select (%kv = @kv : !kvm, %T = prompt_length : index) on(step_end) {
    %odd = kvcache.column odd of %kv : (!kvm) -> !i
    %p = kvcache.column pos of %kv : (!kvm) -> !i
    %flag = kvcache.column flag of %kv : (!kvm) -> !i
    %stay = kvcache.select.where "p < T | (odd == 0 & flag == 0)" (p = %p, T = %T, odd = %odd, flag = %flag) along token : (!i, index, !i, !i) -> !keep
    kvcache.next keep = %stay : !keep
  }
}
