// CAKE, ICLR 2025 (arXiv 2503.12491). A layer's preference is entropy^(1/tau1) variance^(1/tau2) of the window's attention to the
// entries before it; layers share (budget - window) L entries in proportion. An entry's score is the mean + gamma times the
// variance of its probabilities over the window's rows, pooled, averaged over the query heads of a group.
// Budget: mean over the layers, window included. A decode step keeps the length of each layer: by the probabilities of its own
// query, the window's newest entries forced.
// Deviation: the cascade (budgets shared among the layers so far, after each layer) is planned at the end of the prompt, by the
// least budget it ever gives; this keeps the same entries, but memory does not stay low while the prompt is read.
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!iL = !kvcache.tensor<layer:L, i32>
!mS = !kvcache.tensor<layer.seen:L, f32>
!iS = !kvcache.tensor<layer.seen:L, i32>
!mLS = !kvcache.tensor<layer:L, layer.seen:L, f32>
kvcache.method @cake info {family = "allocate", paper = "arXiv 2503.12491", title = "CAKE"} {
  kvcache.param @window = 32 : index in [2, 4096]
  kvcache.param @kernel = 5 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "avg" in {"avg", "max"}
  kvcache.param @gamma = 200.0 : f32 in [0.0, 1000000.0]
  kvcache.param @tau1 = 1.0 : f32 in [0.01, 100.0]
  kvcache.param @tau2 = 1.0 : f32 in [0.01, 100.0]
  kvcache.param @cascade = true
  kvcache.param @wait_for_window = false
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv, %T = length : index, %W = @window : index, %n = @kernel : index, %g = @gamma : f32, %t1 = @tau1 : f32, %t2 = @tau2 : f32) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %p = kvcache.score.reduce sum "p" of %q over %kv causal along [query.win] : (!qw, !kv) -> !sg
    %p2 = kvcache.score.reduce sum "p * p" of %q over %kv causal along [query.win] : (!qw, !kv) -> !sg
    %e = kvcache.score.reduce sum "0 - p * log(p + 1e-10)" of %q over %kv causal along [query.win] : (!qw, !kv) -> !sg
    %eS, %v, %spread = kvcache.map "v = select(i < S, max(0, (p2 - p * p / w) / max(1, w - 1)), 0); select(i < S, e, 0); v; p / w + g * v" (i = %i, S = %S, e = %e, p2 = %p2, p = %p, w = %w, g = %g) : (!pT, index, !sg, !sg, !sg, index, f32) -> (!sg, !sg, !sg)
    %H = kvcache.reduce sum %eS over [head, group, token] : (!sg) -> !m
    %V = kvcache.reduce sum %v over [head, group, token] : (!sg) -> !m
    %pref = kvcache.map "select(H > 0 & V > 0, exp(log(H) / t1 + log(V) / t2), 0)" (H = %H, V = %V, t1 = %t1, t2 = %t2) : (!m, !m, f32, f32) -> !m
    %pooled = kvcache.pool pooling %spread over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !s
    kvcache.next score = %s : !s, pref = %pref : !m
  }
  // Column s: the budgets once layers 0 .. s are known. Each layer is cut to S; the excess, then what truncation left, is spread evenly.
  kvcache.phase allocate (%pref = pref : !mL, %B = budget : index, %L = layers : index, %T = length : index, %W = @window : index, %cascade = @cascade : i1, %wait = @wait_for_window : i1) scope(model) {
    %l = kvcache.iota layer of %pref : (!mL) -> !iL
    %ls = kvcache.relabel %l : (!iL) -> !iS
    %sums = kvcache.scan sum %pref along layer : (!mL) -> !mL
    %sum = kvcache.relabel %sums : (!mL) -> !mS
    %over, %b0, %o0 = kvcache.map "want = select(l <= s, floor(pref / max(sum, 1e-30) * ((B - W) * L)), 0); b = min(want, T - W); want - b; b; select(l <= s & b < T - W, 1.0, 0.0)" (l = %l, s = %ls, pref = %pref, sum = %sum, B = %B, L = %L, T = %T, W = %W) : (!iL, !iS, !mL, !mS, index, index, index, index) -> (!mLS, !mLS, !mLS)
    %r0 = kvcache.scan sum %o0 along layer : (!mLS) -> !mLS
    %n0 = kvcache.reduce sum %o0 over [layer] : (!mLS) -> !mS
    %excess = kvcache.reduce sum %over over [layer] : (!mLS) -> !mS
    %b1, %o1 = kvcache.map "each = floor(x / max(n, 1)); b1 = b + o * (each + select(r <= x - each * n, 1, 0)); b1; select(l <= s & b1 < T - W, 1.0, 0.0)" (l = %l, s = %ls, b = %b0, o = %o0, x = %excess, n = %n0, r = %r0, T = %T, W = %W) : (!iL, !iS, !mLS, !mLS, !mS, !mS, !mLS, index, index) -> (!mLS, !mLS)
    %r1 = kvcache.scan sum %o1 along layer : (!mLS) -> !mLS
    %n1 = kvcache.reduce sum %o1 over [layer] : (!mLS) -> !mS
    %given = kvcache.reduce sum %b1 over [layer] : (!mLS) -> !mS
    %seen = kvcache.map "x = (B - W) * L - given; each = floor(x / max(n, 1)); b2 = b + o * (each + select(r <= x - each * n, 1, 0)); select(l <= s & (cascade | s == L - 1), min(b2, T - W), T - W)" (l = %l, s = %ls, b = %b1, o = %o1, B = %B, given = %given, n = %n1, r = %r1, cascade = %cascade, L = %L, T = %T, W = %W) : (!iL, !iS, !mLS, !mLS, index, !mS, !mS, !mLS, i1, index, index, index) -> !mLS
    %held = kvcache.reduce min %seen over [layer.seen] : (!mLS) -> !mL
    %b = kvcache.map "select(T <= B | (wait & T <= B + W), T, select(B <= W, B, held + W))" (T = %T, B = %B, wait = %wait, W = %W, held = %held) : (index, index, i1, index, !mL) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !kvcache.tensor<i32>, %W = @window : index) on(prompt_end) {
    %keep = kvcache.select.topk %s budget %b last %W : (!s, !kvcache.tensor<i32>, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
  // A layer that was cut has its length plus the step's row.
  kvcache.phase select (%q = last_queries(window) : !qw, %kv = @kv : !kv, %P = prompt_length : index, %B = budget : index, %W = @window : index, %n = @kernel : index, %wait = @wait_for_window : i1) on(step_end) {
    %rows = kvcache.extent token of %kv : (!kv) -> index
    %w = arith.minui %W, %B : index
    %S = arith.subi %rows, %w : index
    %p = kvcache.score.reduce sum "p" of %q over %kv causal along [query.win] last(1) : (!qw, !kv) -> !sg
    %pooled = kvcache.pool pooling %p over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !s
    %b = kvcache.map "select(P <= B | B <= W | (wait & P <= B + W), min(rows, B), rows - 1)" (P = %P, B = %B, W = %W, wait = %wait, rows = %rows) : (index, index, index, i1, index) -> !kvcache.tensor<i32>
    %keep = kvcache.select.topk %s budget %b last %w : (!s, !kvcache.tensor<i32>, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
