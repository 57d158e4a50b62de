// PyramidInfer, arXiv 2405.12532. Tokens that the recent block of a layer attends to least do not enter the next one, so
// caches get shorter with depth; of generated entries, those that leave the recent block are thinned `exceed` at a time.
// No budget: sizes follow from the ratios. R = floor(T * recent_ratio); the recent block is the last R + 1 rows.
// Deviation: in decode the recent block has at most `history` rows, because a row of probabilities is held for each.
!t = !kvcache.tensor<token:?, f32>
!r = !kvcache.tensor<query:?, f32>
!pass = !kvcache.index<query.keep:? of query>
!n = !kvcache.tensor<i32>
!f = !kvcache.tensor<f32>
!seen = !kvcache.cache<append, token:?, {row [code:history] = f32, at = i32}>
!rows = !kvcache.tensor<token:?, code:history, f32>
!c = !kvcache.tensor<code:history, i32>
!u = !kvcache.tensor<code:history, f32>
!stay = !kvcache.index<token.keep:? of token>
!made = !kvcache.index<token.made:? of token>
!m = !kvcache.tensor<token.made:?, f32>
kvcache.method @pyramidinfer info {family = "score", paper = "arXiv 2405.12532", title = "PyramidInfer"} {
  kvcache.param @recent_ratio = 0.2 : f32 in [0.0, 1.0]
  kvcache.param @prefill_decay = 0.9 : f32 in [0.0, 1.0]
  kvcache.param @min_context = 64 : index in [0, 1048576]
  kvcache.param @interval = 1 : index in [1, 1024]
  kvcache.param @sinks = 4 : index in [0, 4096]
  kvcache.param @distance_weight = 1.2 : f32 in [0.0, 1000.0]
  kvcache.param @gen_decay = 0.1 : f32 in [0.0, 1.0]
  kvcache.param @gen_keep = 0.9 : f32 in [0.0, 1.0]
  kvcache.param @exceed = 16 : index in [1, 4096]
  kvcache.param @history = 256 : i64 in [1, 4096]
  kvcache.state @kv : !kv
  kvcache.state @seen : !seen
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %l = layer : index, %L = layers : index, %T = prompt_length : index, %n = rows : index, %part = @recent_ratio : f32, %rho = @prefill_decay : f32, %low = @min_context : index, %each = @interval : index, %sinks = @sinks : index, %far = @distance_weight : f32) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    %R, %B = kvcache.map "R = floor(T * part + 0.0001); share = rho + (1 - rho) * (1 + cos(3.14159265358979 * l / L)) / 2; want = floor((n - R - 1) * share + 0.0001); R; select(want > min(low, T - R - 1) & l == each * floor(l / each), min(want + R + 1, n), n)" (T = %T, part = %part, rho = %rho, l = %l, L = %L, n = %n, low = %low, each = %each) : (index, f32, f32, index, index, index, index, index) -> (!n, !n)
    %i = kvcache.iota query of %q : (!q) -> !p
    %u = kvcache.map "select(i >= n - R - 1, 1 + (far - 1) * (i - n + R + 1) / max(R, 1), 0)" (i = %i, n = %n, R = %R, far = %far) : (!p, index, !n, f32) -> !r
    %sum = kvcache.score.reduce sum "p * u" (u = %u) of %q over %c causal along [query, group, head] : (!q, !kv, !r) -> !t
    %s = kvcache.relabel %sum : (!t) -> !r
    %key = kvcache.map "select(i >= n - R - 1 | i < sinks, inf, s)" (i = %i, n = %n, R = %R, sinks = %sinks, s = %s) : (!p, index, !n, index, !r) -> !r
    %pass = kvcache.topk %key count %B along query : (!r, !n) -> !pass
    kvcache.next out = %o : !o, @kv = %c : !kv, rows = %pass : !pass
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %seen = @seen : !seen, %t = step : index, %H = @history : i64) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %x = kvcache.append %seen, at = %p : (!seen, !p) -> !seen
    %o, %sum = kvcache.attend %q over %c stats(sum(p, over(query, group, head))) : (!q, !kv) -> (!o, !t)
    %n = kvcache.extent token of %c : (!kv) -> index
    %g = kvcache.extent token of %x : (!seen) -> index
    %P = arith.subi %n, %g : index
    %new = kvcache.slice %sum along token from %P size %g : (!t, index, index) -> !t
    %i = kvcache.iota code of %x : (!seen) -> !c
    %old = kvcache.column row of %x : (!seen) -> !rows
    %row = kvcache.map "select(i == t - H * floor(t / H), new, old)" (i = %i, t = %t, H = %H, new = %new, old = %old) : (!c, index, i64, !t, !rows) -> !rows
    %d = kvcache.set_column %x, row = %row : (!seen, !rows) -> !seen
    kvcache.next out = %o : !o, @kv = %c : !kv, @seen = %d : !seen
  }
  kvcache.phase compress (%kv = @kv : !kv, %seen = @seen : !seen, %l = layer : index, %L = layers : index, %T = prompt_length : index, %t = step : index, %part = @recent_ratio : f32, %far = @distance_weight : f32, %rho = @gen_decay : f32, %leave = @gen_keep : f32, %E = @exceed : index, %H = @history : i64) on(step_end) {
    %n = kvcache.extent token of %kv : (!kv) -> index
    %g = kvcache.extent token of %seen : (!seen) -> index
    %i = kvcache.iota code of %seen : (!seen) -> !c
    %R, %nk, %ng = kvcache.map "R = min(floor(T * part + 0.0001), H - 1); share = rho + (1 - rho) * (1 + cos(3.14159265358979 * l / L)) / 2; less = select(g >= R + 1 + E, E - max(1, floor(E * leave * share + 0.0001)), 0); R; n - less; g - less" (T = %T, part = %part, H = %H, rho = %rho, l = %l, L = %L, leave = %leave, E = %E, n = %n, g = %g) : (index, f32, i64, f32, index, index, f32, index, index, index) -> (!n, !n, !n)
    %u = kvcache.map "age = t - i - H * floor((t - i) / H); select(age <= R, 1 + (far - 1) * (R - age) / max(R, 1), 0)" (t = %t, i = %i, H = %H, R = %R, far = %far) : (index, !c, i64, !n, f32) -> !u
    %row = kvcache.column row of %seen : (!seen) -> !rows
    %sum = kvcache.contract %row, %u over [code] : (!rows, !u) -> !t
    %j = kvcache.iota token of %seen : (!seen) -> !pT
    %s = kvcache.map "select(j >= g - R - 1 - E & j < g - R - 1, sum, inf)" (j = %j, g = %g, R = %R, E = %E, sum = %sum) : (!pT, index, !n, index, !t) -> !t
    %keepSeen = kvcache.topk %s count %ng along token : (!t, !n) -> !stay
    %x = kvcache.iota token of %kv : (!kv) -> !pT
    %none = kvcache.map "select(x >= 0, inf, 0)" (x = %x) : (!pT) -> !t
    %made = kvcache.select.where "x >= n - g" (x = %x, n = %n, g = %g) along token : (!pT, index, index) -> !made
    %sm = kvcache.relabel %s : (!t) -> !m
    %all = kvcache.scatter set %sm into %none at %made : (!m, !t, !made) -> !t
    %keep = kvcache.topk %all count %nk along token : (!t, !n) -> !stay
    %kept = kvcache.gather %kv at %keep : (!kv, !stay) -> !kv
    %keptSeen = kvcache.gather %seen at %keepSeen : (!seen, !stay) -> !seen
    kvcache.next @kv = %kept : !kv, @seen = %keptSeen : !seen
  }
}
