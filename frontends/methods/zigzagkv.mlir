// ZigZagKV, arXiv 2412.09036. A layer needs as many entries as hold the share `mass` of its attention: for each query head the
// least number of entries whose summed probabilities of the window's rows reach it, averaged over heads. Layers get
// bound budget + (1 - bound) budget L need / sum of needs; SnapKV's scores decide which entries these are.
// Budget: mean over the layers, window included, the same for the row heads of a layer; integers by largest remainder.
// A layer takes at most the prompt, and others share what it leaves. A budget of at most the window keeps the newest.
// Deviation: a layer with a share below 1 gets 1, taken from what others have above 1; window and bound are those of a
// port, as the paper names none.
!hg = !kvcache.tensor<head:Hkv, group:G, f32>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!iL = !kvcache.tensor<layer:L, i32>
kvcache.method @zigzagkv info {family = "allocate", paper = "arXiv 2412.09036", title = "ZigZagKV"} {
  kvcache.param @window = 64 : index in [1, 4096]
  kvcache.param @kernel = 5 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "avg" in {"avg", "max"}
  kvcache.param @mass = 0.9 : f32 in [0.0, 1.0]
  kvcache.param @bound = 0.1 : f32 in [0.0, 1.0]
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kvG
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index, %mass = @mass : f32) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    %sorted = kvcache.sort descending %votes along token : (!sg) -> !sg
    %held = kvcache.scan sum %sorted along token : (!sg) -> !sg
    %whole = kvcache.reduce sum %votes over [token] : (!sg) -> !hg
    %below = kvcache.map "select(held < mass * whole, 1.0, 0.0)" (held = %held, mass = %mass, whole = %whole) : (!sg, f32, !hg) -> !sg
    %before = kvcache.reduce sum %below over [token] : (!sg) -> !hg
    %mean = kvcache.reduce mean %before over [head, group] : (!hg) -> !m
    %need = kvcache.map "1 + mean" (mean = %mean) : (!m) -> !m
    kvcache.next score = %s : !sG, need = %need : !m
  }
  // The k layers of most need get T; the others low + x need, x from what is left. k is the least for which none exceeds T.
  kvcache.phase allocate (%need = need : !mL, %B = budget : index, %L = layers : index, %T = length : index, %W = @window : index, %f = @bound : f32) scope(model) {
    %one = arith.constant 1 : index
    %total = arith.muli %B, %L : index
    %n = kvcache.sort descending %need along layer : (!mL) -> !mL
    %rest = kvcache.scan sum %n along layer reverse : (!mL) -> !mL
    %k = kvcache.iota layer of %n : (!mL) -> !iL
    %x = kvcache.map "(total - k * T - f * B * (L - k)) / rest" (total = %total, k = %k, T = %T, f = %f, B = %B, L = %L, rest = %rest) : (index, !iL, index, f32, index, index, !mL) -> !mL
    %over = kvcache.map "select(f * B + x * n > T, 1.0, 0.0)" (f = %f, B = %B, x = %x, n = %n, T = %T) : (f32, index, !mL, !mL, index) -> !mL
    %full = kvcache.reduce sum %over over [layer] : (!mL) -> !m
    %own = kvcache.map "select(k == full, x, -inf)" (k = %k, full = %full, x = %x) : (!iL, !m, !mL) -> !mL
    %slope = kvcache.reduce max %own over [layer] : (!mL) -> !m
    %share = kvcache.map "max(0, min(T, f * B + x * need) - 1)" (T = %T, f = %f, B = %B, x = %slope, need = %need) : (index, f32, index, !m, !mL) -> !mL
    %c = kvcache.select.alloc proportional %share total %total floor %one cap %T : (!mL, index, index, index) -> !iL
    %b = kvcache.map "select(B <= W, B, c)" (B = %B, W = %W, c = %c) : (index, index, !iL) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !sG, %b = budget : !kvcache.tensor<i32>, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %b last %W : (!sG, !kvcache.tensor<i32>, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
