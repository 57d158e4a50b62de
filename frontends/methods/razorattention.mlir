// RazorAttention, arXiv 2407.15891. Retrieval heads keep everything. Another head of N entries keeps the first `sinks` and
// the last max(local, N / share); those between become one entry, the means of their keys and values, which attention
// counts as often as there are: the log of the count is added to its logit. An entry that leaves the last ones joins the mean.
// buffer: N is the length of the prompt, or grows; absorb=false, weighted=false: the published code, without either.
// Budget: none. Calibration finds the retrieval heads on a random sequence repeated `copies` times: of all KV heads the share
// `echo_share` whose queries look most at their own token in earlier copies, and the share `induction_share` that look most
// at the tokens behind those; at least one each, equal heads together. The artefact `retrieval` is 1 for each of them and 0 for
// others; without calibration there is none. Deviation: means are held in the cache's own type.
!kvm = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, merged = i32}>
!i = !kvcache.tensor<head:Hkv, token:?, i32>
!heads = !kvcache.tensor<layer:L, head:Hkv, f32>
!other = !kvcache.tensor<layer.other:L, head.other:Hkv, f32>
!pairs = !kvcache.tensor<layer:L, head:Hkv, layer.other:L, head.other:Hkv, f32>
!hg = !kvcache.tensor<head:Hkv, group:G, f32>
!one = !kvcache.tensor<f32>
!n = !kvcache.tensor<i32>
!hk = !kvcache.tensor<head:Hkv, channel.post:D, f32>
!hv = !kvcache.tensor<head:Hkv, channel.v:D, f32>
kvcache.method @razorattention info {family = "merge", paper = "arXiv 2407.15891", title = "RazorAttention"} {
  kvcache.param @sinks = 4 : index in [0, 4096]
  kvcache.param @local = 4000 : index in [0, 1048576]
  kvcache.param @share = 5 : index in [0, 1048576]
  kvcache.param @weighted = true
  kvcache.param @absorb = true
  kvcache.param @buffer = "prompt" in {"prompt", "length"}
  kvcache.param @period = 2500 : index in [2, 1048576]
  kvcache.param @copies = 4 : index in [2, 4096]
  kvcache.param @echo_share = 0.01 : f32 in [0.0, 1.0]
  kvcache.param @induction_share = 0.14 : f32 in [0.0, 1.0]
  kvcache.artefact @retrieval : !heads else 0.0
  kvcache.state @kv : !kvm
  kvcache.phase calibrate (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvm, %n = @period : index) on(repeat(period, copies)) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvm, !k, !v, !p) -> !kvm
    // Position 0 begins the text; the token of entry kpos stands at kpos + n, kpos + 2 n ..
    %e = kvcache.score.reduce sum "select(kpos > 0 & qpos > kpos & floor((qpos - kpos) / n) * n == qpos - kpos, p, 0)" (n = %n) of %q over %c causal along [query] : (!q, !kvm, index) -> !sg
    %i = kvcache.score.reduce sum "select(kpos > 1 & floor((qpos - kpos + 1) / n) * n == qpos - kpos + 1, p, 0)" (n = %n) of %q over %c causal along [query] : (!q, !kvm, index) -> !sg
    %eg = kvcache.reduce sum %e over [token] : (!sg) -> !hg
    %ig = kvcache.reduce sum %i over [token] : (!sg) -> !hg
    %echo = kvcache.reduce max %eg over [group] : (!hg) -> !h
    %induction = kvcache.reduce max %ig over [group] : (!hg) -> !h
    kvcache.next echo = %echo : !h, induction = %induction : !h
  }
  kvcache.phase calibrate (%e = echo : !heads, %i = induction : !heads, %a = @echo_share : f32, %b = @induction_share : f32) scope(model) {
    %oe = kvcache.relabel %e : (!heads) -> !other
    %oi = kvcache.relabel %i : (!heads) -> !other
    %be = kvcache.map "select(o > x, 1, 0)" (o = %oe, x = %e) : (!other, !heads) -> !pairs
    %bi = kvcache.map "select(o > x, 1, 0)" (o = %oi, x = %i) : (!other, !heads) -> !pairs
    %re = kvcache.reduce sum %be over [layer.other, head.other] : (!pairs) -> !heads
    %ri = kvcache.reduce sum %bi over [layer.other, head.other] : (!pairs) -> !heads
    %ones = kvcache.map "1" (o = %oe) : (!other) -> !other
    %N = kvcache.reduce sum %ones over [layer.other, head.other] : (!other) -> !one
    %r = kvcache.map "select(re < max(1, round(a * N)) | ri < max(1, round(b * N)), 1, 0)" (re = %re, ri = %ri, a = %a, b = %b, N = %N) : (!heads, !heads, f32, f32, !one) -> !heads
    kvcache.next @retrieval = %r : !heads
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvm, %w = @weighted : i1) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvm, !k, !v, !p) -> !kvm
    %m = kvcache.column merged of %c : (!kvm) -> !i
    %o = kvcache.attend %q over %c causal logit "select(w, z + log(m + 1), z)" (w = %w, m = %m) : (!q, !kvm, i1, !i) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kvm
  }
  kvcache.phase query (%q = query : !q, %kv = @kv : !kvm, %w = @weighted : i1) {
    %m = kvcache.column merged of %kv : (!kvm) -> !i
    %o = kvcache.attend %q over %kv logit "select(w, z + log(m + 1), z)" (w = %w, m = %m) : (!q, !kvm, i1, !i) -> !o
    kvcache.next out = %o : !o
  }
  kvcache.phase compress (%kv = @kv : !kvm, %T = length : index, %P = prompt_length : index, %r = @retrieval : !h, %s = @sinks : index, %local = @local : index, %C = @share : index, %grows = @buffer : index, %a = @absorb : i1) on(prompt_end, step_end) {
    %L = kvcache.map "max(l, select(C == 0, l, floor(select(g == 1, T, P) / C)))" (l = %local, C = %C, g = %grows, T = %T, P = %P) : (index, index, index, index, index) -> !n
    %m = kvcache.column merged of %kv : (!kvm) -> !i
    %i = kvcache.iota token of %kv : (!kvm) -> !pT
    %ones = kvcache.map "1" (m = %m) : (!i) -> !s
    %rows = kvcache.reduce sum %ones over [token] : (!s) -> !h
    %w = kvcache.map "select(r == 0 & (a | T == P) & i >= s & i < rows - L, m + 1, 0)" (r = %r, a = %a, T = %T, P = %P, i = %i, s = %s, rows = %rows, L = %L, m = %m) : (!h, i1, index, index, !pT, index, !h, !n, !i) -> !s
    %W = kvcache.reduce sum %w over [token] : (!s) -> !h
    %k = kvcache.column k of %kv : (!kvm) -> !kT
    %v = kvcache.column v of %kv : (!kvm) -> !vT
    %sk = kvcache.contract %w, %k over [token] : (!s, !kT) -> !hk
    %sv = kvcache.contract %w, %v over [token] : (!s, !vT) -> !hv
    %nk = kvcache.map "select(w > 0 & i == s, x / W, k)" (w = %w, i = %i, s = %s, x = %sk, W = %W, k = %k) : (!s, !pT, index, !hk, !h, !kT) -> !kT
    %nv = kvcache.map "select(w > 0 & i == s, x / W, v)" (w = %w, i = %i, s = %s, x = %sv, W = %W, v = %v) : (!s, !pT, index, !hv, !h, !vT) -> !vT
    %nm = kvcache.map "select(w > 0 & i == s, W - 1, m)" (w = %w, i = %i, s = %s, W = %W, m = %m) : (!s, !pT, index, !h, !i) -> !i
    %d = kvcache.set_column %kv, k = %nk, v = %nv, merged = %nm : (!kvm, !kT, !vT, !i) -> !kvm
    %keep = kvcache.select.where "w == 0 | i == s" (w = %w, i = %i, s = %s) along token : (!s, !pT, index) -> !keep
    %f = kvcache.gather %d at %keep : (!kvm, !keep) -> !kvm
    kvcache.next @kv = %f : !kvm
  }
}
