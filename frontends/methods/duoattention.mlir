// DuoAttention, arXiv 2410.10819, deployed. Heads whose gate is at or above the quantile `sparsity` of all gates keep
// every entry (retrieval heads); the others keep the first `sinks` and the newest `recent`, after the prompt and after
// every step. The gates, one for each layer and KV head, in [0, 1], are the artefact `gates`: trained outside and read from a
// file, or calibrated without training, as kvpress does: the mean key of a text, repeated at `positions` places, is attended
// to by its mean query from the last one; the gate is the mean of the attention summed up to each place, over query heads and
// `texts` texts: large where a head looks far back. Without gates every head streams. At or above the (interpolated) quantile of N gates are those that more than
// ceil(sparsity (N - 1)) gates do not exceed; equal gates at the threshold are all retrieval heads.
// No token budget: sparsity, sinks and recent say what is kept.
// Deviations: the prompt is read in one piece with full attention in all heads; no noise breaks ties.
!m = !kvcache.tensor<f32>
!gates = !kvcache.tensor<layer:L, head:Hkv, f32>
!other = !kvcache.tensor<layer.other:L, head.other:Hkv, f32>
!rows = !kvcache.tensor<query:?, head:Hkv, channel.pre:D, f32>
!turned = !kvcache.tensor<query:?, head:Hkv, channel.post:D, f32>
!sq = !kvcache.tensor<head:Hkv, group:G, query:?, f32>
!hgq = !kvcache.tensor<head:Hkv, group:G, f32>
!pairs = !kvcache.tensor<head:Hkv, layer.other:L, head.other:Hkv, f32>
kvcache.method @duoattention info {family = "select", paper = "arXiv 2410.10819", title = "DuoAttention"} {
  kvcache.param @sinks = 64 : index in [0, 1048576]
  kvcache.param @recent = 256 : index in [1, 1048576]
  kvcache.param @sparsity = 0.5 : f32 in [0.0, 1.0]
  kvcache.param @texts = 50 : index in [1, 4096]
  kvcache.param @text_length = 512 : index in [2, 1048576]
  kvcache.param @positions = 500 : index in [1, 1048576]
  kvcache.artefact @gates : !gates else -1.0
  kvcache.state @kv : !kv
  kvcache.phase calibrate (%q = query : !qpre, %k = key : !kpre, %p = pos : !p, %T = length : index, %n = @positions : index) on(text(texts, text_length)) {
    %zero = arith.constant 0 : index
    %places = arith.minui %n, %T : index
    %mq = kvcache.reduce mean %q over [query] : (!qpre) -> !kvcache.tensor<head:Hkv, group:G, channel.pre:D, f32>
    %mk = kvcache.reduce mean %k over [query] : (!kpre) -> !kvcache.tensor<head:Hkv, channel.pre:D, f32>
    // Seen from the query, which is not rotated, the places are -(places - 1) .. 0.
    %rows = kvcache.slice %p along query from %zero size %places : (!p, index, index) -> !p
    %at = kvcache.map "p - n + 1" (p = %rows, n = %places) : (!p, index) -> !p
    %keys = kvcache.map "k" (k = %mk, p = %rows) : (!kvcache.tensor<head:Hkv, channel.pre:D, f32>, !p) -> !rows
    %turned = kvcache.rope %keys by %at : (!rows, !p) -> !turned
    %last = kvcache.relabel %mq : (!kvcache.tensor<head:Hkv, group:G, channel.pre:D, f32>) -> !kvcache.tensor<head:Hkv, group:G, channel.post:D, f32>
    %z = kvcache.contract %last, %turned over [channel.post] : (!kvcache.tensor<head:Hkv, group:G, channel.post:D, f32>, !turned) -> !sq
    %d = kvcache.extent channel.post of %turned : (!turned) -> index
    %most = kvcache.reduce max %z over [query] : (!sq) -> !hgq
    %e = kvcache.map "exp((z - m) / sqrt(d))" (z = %z, m = %most, d = %d) : (!sq, !hgq, index) -> !sq
    %whole = kvcache.reduce sum %e over [query] : (!sq) -> !hgq
    %sums = kvcache.scan sum %e along query : (!sq) -> !sq
    %area = kvcache.reduce mean %sums over [query] : (!sq) -> !hgq
    %each = kvcache.map "a / w" (a = %area, w = %whole) : (!hgq, !hgq) -> !hgq
    %far = kvcache.reduce mean %each over [group] : (!hgq) -> !h
    kvcache.next far = %far : !h
  }
  kvcache.phase calibrate (%far = far : !gates) scope(model) {
    %g = kvcache.map "min(1, g)" (g = %far) : (!gates) -> !gates
    kvcache.next @gates = %g : !gates
  }
  kvcache.phase select (%kv = @kv : !kv, %gates = @gates : !gates, %own = @gates : !h, %T = length : index, %a = @sinks : index, %n = @recent : index, %q = @sparsity : f32) on(prompt_end, step_end) {
    %all = kvcache.relabel %gates : (!gates) -> !other
    %below = kvcache.map "select(o <= g, 1.0, 0.0)" (g = %own, o = %all) : (!h, !other) -> !pairs
    %count = kvcache.reduce sum %below over [layer.other, head.other] : (!pairs) -> !h
    %ones = kvcache.map "1.0" (o = %all) : (!other) -> !other
    %N = kvcache.reduce sum %ones over [layer.other, head.other] : (!other) -> !m
    %b = kvcache.map "select(g >= 0 & c > ceil(q * (N - 1)), T, a + n)" (g = %own, c = %count, q = %q, N = %N, T = %T, a = %a, n = %n) : (!h, !h, f32, !m, index, index, index) -> !hb
    // Ranked by index: after the sinks, the newest are the best.
    %at = kvcache.iota token of %kv : (!kv) -> !pT
    %p = kvcache.column pos of %kv : (!kv) -> !kvcache.tensor<head:Hkv, token:?, i32>
    %s = kvcache.map "i" (i = %at, p = %p) : (!pT, !kvcache.tensor<head:Hkv, token:?, i32>) -> !s
    %keep = kvcache.select.topk %s budget %b first %a : (!s, !hb, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
