// Scissorhands, arXiv 2305.17118. Counts in how many of the last `window` rows an entry was there and got less than 1 / t,
// the mean share in a row of t entries (mean over the query heads of a group). When more than the budget are held, the
// max(1, floor(drop budget)) entries with the most such rows leave, the oldest first; the newest `recent` count 0.
// Budget: most entries per KV head. A longer prompt is cut to it at once, or (prompt=repeat) by that many at a time.
// Deviation: every layer has the same budget; the paper sets them by hand.
// `low` is a ring of `window` bits, 24 in a word: row t of the sequence has bit t mod window.
!kvh = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, low [code:words] = i32}>
!win = !kvcache.tensor<query.win:?, i32>
!bits = !kvcache.tensor<head:Hkv, query.win:?, token:?, f32>
!place = !kvcache.tensor<query.win:?, code:words, f32>
!i = !kvcache.tensor<code:words, i32>
!u = !kvcache.tensor<code:words, f32>
!low = !kvcache.tensor<head:Hkv, token:?, code:words, i32>
!n = !kvcache.tensor<i32>
kvcache.method @scissorhands info {family = "score", paper = "arXiv 2305.17118", title = "Scissorhands"} {
  kvcache.param @window = 400 : index in [1, 4096]
  kvcache.param @words = "(window + 23) / 24" : i64 in [1, 171]
  kvcache.param @recent = 10 : index in [0, 1048576]
  kvcache.param @drop = 0.5 : f32 in [0.0, 1.0]
  kvcache.param @prompt = "once" in {"once", "repeat"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kvh
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvh, %T = length : index, %w = @window : index) on(prompt_end) {
    %m = kvcache.extent query.win of %q : (!qw) -> index
    %r = kvcache.iota query.win of %q : (!qw) -> !win
    %t = kvcache.map "T - m + r + 1" (T = %T, m = %m, r = %r) : (index, index, !win) -> !win
    %bits = kvcache.score.reduce sum "select(p * t < 1, 1, 0)" (t = %t) of %q over %kv causal mean [group] along [] : (!qw, !kvh, !win) -> !bits
    %i = kvcache.iota code of %kv : (!kvh) -> !i
    %e = kvcache.map "select(floor((t - w * floor(t / w)) / 24) == i, t - w * floor(t / w) - 24 * i, -inf)" (t = %t, w = %w, i = %i) : (!win, index, !i) -> !place
    %u = kvcache.map %e with math.exp2 : (!place) -> !place
    %low = kvcache.contract %bits, %u over [query.win] : (!bits, !place) -> !low
    %d = kvcache.set_column %kv, low = %low : (!kvh, !low) -> !kvh
    kvcache.next @kv = %d : !kvh
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvh, %t = length : index, %w = @window : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvh, !k, !v, !p) -> !kvh
    %o = kvcache.attend %q over %c : (!q, !kvh) -> !o
    %n = kvcache.extent token of %c : (!kvh) -> index
    %b = kvcache.score.reduce max "select(p * n < 1, 1, 0)" (n = %n) of %q over %c mean [group] along [query] : (!q, !kvh, index) -> !s
    %i = kvcache.iota code of %c : (!kvh) -> !i
    %e = kvcache.map "select(floor((t - w * floor(t / w)) / 24) == i, t - w * floor(t / w) - 24 * i, -inf)" (t = %t, w = %w, i = %i) : (index, index, !i) -> !u
    %u = kvcache.map %e with math.exp2 : (!u) -> !u
    %x = kvcache.column low of %c : (!kvh) -> !low
    %low = kvcache.map "select(u > 0, x + u * (b - floor(x / u) + 2 * floor(x / (2 * u))), x)" (x = %x, u = %u, b = %b) : (!low, !u, !s) -> !low
    %d = kvcache.set_column %c, low = %low : (!kvh, !low) -> !kvh
    kvcache.next out = %o : !o, @kv = %d : !kvh
  }
  kvcache.phase select (%kv = @kv : !kvh, %B = budget : index, %f = @drop : f32, %repeat = @prompt : index, %r = @recent : index, %t = length : index, %P = prompt_length : index) on(prompt_end, step_end) {
    %low = kvcache.column low of %kv : (!kvh) -> !low
    %ones = kvcache.map %low with math.ctpop : (!low) -> !low
    %u = kvcache.reduce sum %ones over [code] : (!low) -> !s
    %i = kvcache.iota token of %kv : (!kvh) -> !pT
    %n = kvcache.extent token of %kv : (!kvh) -> index
    %s = kvcache.map "select(i < n - r, u, 0)" (i = %i, n = %n, r = %r, u = %u) : (!pT, index, index, !s) -> !s
    %m = kvcache.map "select(t > P | repeat == 1, max(1, floor(f * B)), 1)" (t = %t, P = %P, repeat = %repeat, f = %f, B = %B) : (index, index, index, f32, index) -> !n
    %gone = kvcache.map "m * ceil(max(n - B, 0) / m)" (m = %m, n = %n, B = %B) : (!n, index, index) -> !n
    %drop = kvcache.topk %s count %gone along token : (!s, !n) -> !drop
    %keep = kvcache.select.complement %drop of %kv : (!drop, !kvh) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
