// DuoAttention, arXiv 2410.10819, deployed. Heads whose gate is at or above the quantile `sparsity` of all gates keep
// every entry (retrieval heads); the others keep the first `sinks` and the newest `recent`, after the prompt and after
// every step. The gates, one for each layer and KV head, in [0, 1], are trained outside: the artefact `gates`. Without
// them every head streams. At or above the (interpolated) quantile of N gates are those that more than
// ceil(sparsity (N - 1)) gates do not exceed; equal gates at the threshold are all retrieval heads.
// No token budget: sparsity, sinks and recent say what is kept.
// Deviations: the prompt is read in one piece with full attention in all heads; no noise breaks ties.
!m = !kvcache.tensor<f32>
!gates = !kvcache.tensor<layer:L, head:Hkv, f32>
!other = !kvcache.tensor<layer.other:L, head.other:Hkv, f32>
!pairs = !kvcache.tensor<head:Hkv, layer.other:L, head.other:Hkv, f32>
kvcache.method @duoattention info {family = "select", paper = "arXiv 2410.10819", title = "DuoAttention"} {
  kvcache.param @sinks = 64 : index in [0, 1048576]
  kvcache.param @recent = 256 : index in [1, 1048576]
  kvcache.param @sparsity = 0.5 : f32 in [0.0, 1.0]
  kvcache.artefact @gates : !gates from file else -1.0
  kvcache.state @kv : !kv
  kvcache.phase select (%kv = @kv : !kv, %gates = @gates : !gates, %l = layer : index, %T = length : index, %a = @sinks : index, %n = @recent : index, %q = @sparsity : f32) on(prompt_end, step_end) {
    %layers = kvcache.iota layer of %gates : (!gates) -> !kvcache.tensor<layer:L, i32>
    %row = kvcache.map "select(i == l, g, -inf)" (i = %layers, l = %l, g = %gates) : (!kvcache.tensor<layer:L, i32>, index, !gates) -> !gates
    %own = kvcache.reduce max %row over [layer] : (!gates) -> !h
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
