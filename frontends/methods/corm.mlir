// CORM, arXiv 2404.15949. An entry stays as long as a query head of its group gave it at least 1 / t, the mean share in a row of
// t tokens, in one of the last `window` rows; the newest `recent` stay anyway, and until there were `window` rows everything.
// level=cached takes the entries held for t in decode.
// Budget: at most so many per KV head: the newest of them, then the entries with the most such rows, the oldest first.
// Deviation: none known; the paper leaves open what a limit does, and has no code.
// `high` is a ring of `window` bits, 24 in a word: row t of the sequence has bit t mod window.
!kvh = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, high [code:words] = i32}>
!win = !kvcache.tensor<query.win:?, i32>
!bits = !kvcache.tensor<head:Hkv, query.win:?, token:?, f32>
!place = !kvcache.tensor<query.win:?, code:words, f32>
!i = !kvcache.tensor<code:words, i32>
!u = !kvcache.tensor<code:words, f32>
!high = !kvcache.tensor<head:Hkv, token:?, code:words, i32>
kvcache.method @corm info {family = "score", paper = "arXiv 2404.15949", title = "CORM"} {
  kvcache.param @window = 256 : index in [1, 4096]
  kvcache.param @words = "(window + 23) / 24" : i64 in [1, 171]
  kvcache.param @recent = 256 : index in [0, 1048576]
  kvcache.param @level = "length" in {"length", "cached"}
  kvcache.param @budget = -1 : index
  kvcache.state @kv : !kvh
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvh, %T = length : index, %w = @window : index) on(prompt_end) {
    %m = kvcache.extent query.win of %q : (!qw) -> index
    %r = kvcache.iota query.win of %q : (!qw) -> !win
    %t = kvcache.map "T - m + r + 1" (T = %T, m = %m, r = %r) : (index, index, !win) -> !win
    %b = kvcache.score.reduce sum "select(p * t >= 1, 1, 0)" (t = %t) of %q over %kv causal along [group] : (!qw, !kvh, !win) -> !bits
    %bits = kvcache.map "min(b, 1)" (b = %b) : (!bits) -> !bits
    %i = kvcache.iota code of %kv : (!kvh) -> !i
    %e = kvcache.map "select(floor((t - w * floor(t / w)) / 24) == i, t - w * floor(t / w) - 24 * i, -inf)" (t = %t, w = %w, i = %i) : (!win, index, !i) -> !place
    %u = kvcache.map %e with math.exp2 : (!place) -> !place
    %high = kvcache.contract %bits, %u over [query.win] : (!bits, !place) -> !high
    %d = kvcache.set_column %kv, high = %high : (!kvh, !high) -> !kvh
    kvcache.next @kv = %d : !kvh
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvh, %t = length : index, %w = @window : index, %held = @level : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvh, !k, !v, !p) -> !kvh
    %o = kvcache.attend %q over %c : (!q, !kvh) -> !o
    %each = kvcache.score.reduce max "1" of %q over %c along [query, group] : (!q, !kvh) -> !s
    %n = kvcache.reduce count %each over [token] : (!s) -> !h
    %b = kvcache.score.reduce max "select(p * select(held == 1, n, t) >= 1, 1, 0)" (held = %held, n = %n, t = %t) of %q over %c along [query, group] : (!q, !kvh, index, !h, index) -> !s
    %i = kvcache.iota code of %c : (!kvh) -> !i
    %e = kvcache.map "select(floor((t - w * floor(t / w)) / 24) == i, t - w * floor(t / w) - 24 * i, -inf)" (t = %t, w = %w, i = %i) : (index, index, !i) -> !u
    %u = kvcache.map %e with math.exp2 : (!u) -> !u
    %x = kvcache.column high of %c : (!kvh) -> !high
    %high = kvcache.map "select(u > 0, x + u * (b - floor(x / u) + 2 * floor(x / (2 * u))), x)" (x = %x, u = %u, b = %b) : (!high, !u, !s) -> !high
    %d = kvcache.set_column %c, high = %high : (!kvh, !high) -> !kvh
    kvcache.next out = %o : !o, @kv = %d : !kvh
  }
  kvcache.phase select (%kv = @kv : !kvh, %C = budget : index, %r = @recent : index, %t = length : index, %w = @window : index) on(prompt_end, step_end) {
    %high = kvcache.column high of %kv : (!kvh) -> !high
    %ones = kvcache.map %high with math.ctpop : (!high) -> !high
    %hits = kvcache.reduce sum %ones over [code] : (!high) -> !s
    %each = kvcache.map "1" (h = %hits) : (!s) -> !s
    %n = kvcache.reduce sum %each over [token] : (!s) -> !h
    %i = kvcache.iota token of %kv : (!kvh) -> !pT
    %s = kvcache.map "select(i >= n - min(r, C), inf, hits)" (i = %i, n = %n, r = %r, C = %C, hits = %hits) : (!pT, !h, index, index, !s) -> !s
    %stay = kvcache.reduce count %s over [token] : (!s) -> !h
    %B = kvcache.map "select(t < w, n, min(C, stay))" (t = %t, w = %w, n = %n, C = %C, stay = %stay) : (index, index, !h, index, !h) -> !hb
    %keep = kvcache.topk %s count %B along token : (!s, !hb) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
