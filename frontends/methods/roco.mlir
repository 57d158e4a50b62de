// RoCo, arXiv 2402.06262. Of the entries whose attention varies least, the one with the lowest mean attention leaves. Kept per entry,
// of the rows that saw it: the sums of p and of p^2, p the mean over the query heads of a group, and how many they were. mean = sum /
// rows, spread = squares / rows - mean^2 (its root has the same order); that of the newest `protect` entries (in the prompt also of the first `sinks`)
// counts as infinite.
// mode=decoding: the prompt stays, and a generated entry leaves in each step beyond the budget, out of the budget - recent_ratio
// budget with the least spread. mode=encoding: the prompt is read `stride` rows at a time, and as many entries leave each time, out of
// the M - encode_ratio M - sinks with the least spread; decode appends. mode=auto: as encoding, then all entries compete in decode; a
// prompt within the budget stays, and leaves the rest of it to what is generated.
// Budget: entries per KV head: generated (decoding), all (auto), of the prompt (encoding): N, the largest number up to M that whole
// strides reach; M is the budget, with cap=ratio one stride more. Rows before the last N - stride count only with keep_attention.
// Deviation: no attention at cache positions (a switch of the authors' code). Strides end where a call ends that brings
// rows of the prompt. A stride for which N is below 1 is not refused.
!kvr = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, sum = f32, squares = f32, rows = f32}>
!n = !kvcache.tensor<i32>
!calm = !kvcache.index<head:Hkv, token.calm:? of token>
!sc = !kvcache.tensor<head:Hkv, token.calm:?, f32>
kvcache.method @roco info {family = "score", paper = "arXiv 2402.06262", title = "RoCo"} {
  kvcache.param @mode = "decoding" in {"decoding", "encoding", "auto"}
  kvcache.param @recent_ratio = 0.3 : f32 in [0.0, 1.0]
  kvcache.param @encode_ratio = 0.1 : f32 in [0.0, 1.0]
  kvcache.param @protect = 10 : index in [0, 1048576]
  kvcache.param @sinks = 4 : index in [0, 1048576]
  kvcache.param @stride = 1 : index in [1, 4096]
  kvcache.param @keep_attention = false
  kvcache.param @cap = "total" in {"total", "ratio"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kvr
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvr, %t = length : index, %P = prompt_length : index, %B = budget : index, %mode = @mode : index, %ratio = @cap : index, %c = @stride : index, %all = @keep_attention : i1, %rr = @recent_ratio : f32, %er = @encode_ratio : f32, %safe = @protect : index, %sinks = @sinks : index) on(chunks(stride)) when(@mode = ["encoding", "auto"]) {
    %x = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvr, !k, !v, !p) -> !kvr
    %o = kvcache.attend %q over %x causal : (!q, !kvr) -> !o
    %m = kvcache.extent query of %q : (!q) -> index
    %n = kvcache.extent token of %x : (!kvr) -> index
    %M, %w, %gone = kvcache.map "M = B + c * ratio; N = t + c * floor((M - t) / c); M; select(t > P | all | t - m >= N - c, 1.0, 0); max(0, select(t > P, select(mode == 1, 0, n - B), n - N))" (B = %B, c = %c, ratio = %ratio, t = %t, P = %P, mode = %mode, n = %n, m = %m, all = %all) : (index, index, index, index, index, index, index, index, i1) -> (!n, !n, !n)
    %F = kvcache.map "R = select(P <= B, B - P, B); select(t > P, max(1, R - floor(rr * R)), max(M - floor(er * M) - sinks, gone))" (M = %M, B = %B, t = %t, P = %P, rr = %rr, er = %er, sinks = %sinks, gone = %gone) : (!n, index, index, index, f32, f32, index, !n) -> !n
    %a = kvcache.score.reduce sum "p" of %q over %x causal mean [group] along [query] : (!q, !kvr) -> !s
    %b = kvcache.score.reduce sum "p * p" of %q over %x causal mean [group] along [query] : (!q, !kvr) -> !s
    %i = kvcache.iota token of %x : (!kvr) -> !pT
    %sum0 = kvcache.column sum of %x : (!kvr) -> !s
    %squares0 = kvcache.column squares of %x : (!kvr) -> !s
    %rows0 = kvcache.column rows of %x : (!kvr) -> !s
    %sum, %squares, %rows = kvcache.map "s + w * a; q + w * b; r + w * min(m, n - i)" (s = %sum0, a = %a, q = %squares0, b = %b, r = %rows0, w = %w, m = %m, n = %n, i = %i) : (!s, !s, !s, !s, !s, !n, index, index, !pT) -> (!s, !s, !s)
    %low, %still = kvcache.map "mean = sum / max(rows, 1); -mean; select(i < P & t > P & P <= B, -inf, select(i >= n - safe | (t == P & i < sinks), -1, -max(0, squares / max(rows, 1) - mean * mean)))" (t = %t, P = %P, B = %B, i = %i, n = %n, safe = %safe, sinks = %sinks, sum = %sum, squares = %squares, rows = %rows) : (index, index, index, !pT, index, index, index, !s, !s, !s) -> (!s, !s)
    %d = kvcache.set_column %x, sum = %sum, squares = %squares, rows = %rows : (!kvr, !s, !s, !s) -> !kvr
    %calm = kvcache.topk %still count %F along token : (!s, !n) -> !calm
    %some = kvcache.gather %low at %calm : (!s, !calm) -> !sc
    %none = kvcache.map "-inf" (x = %low) : (!s) -> !s
    %s = kvcache.scatter set %some into %none at %calm : (!sc, !s, !calm) -> !s
    %drop = kvcache.topk %s count %gone along token : (!s, !n) -> !drop
    %keep = kvcache.select.complement %drop of %d : (!drop, !kvr) -> !keep
    %y = kvcache.gather %d at %keep : (!kvr, !keep) -> !kvr
    kvcache.next out = %o : !o, @kv = %y : !kvr
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvr, %P = prompt_length : index, %B = budget : index, %rr = @recent_ratio : f32, %safe = @protect : index) when(@mode = "decoding") {
    %x = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvr, !k, !v, !p) -> !kvr
    %o = kvcache.attend %q over %x : (!q, !kvr) -> !o
    %n = kvcache.extent token of %x : (!kvr) -> index
    %a = kvcache.score.reduce max "p" of %q over %x mean [group] along [query] : (!q, !kvr) -> !s
    %b = kvcache.score.reduce max "p * p" of %q over %x mean [group] along [query] : (!q, !kvr) -> !s
    %i = kvcache.iota token of %x : (!kvr) -> !pT
    %sum0 = kvcache.column sum of %x : (!kvr) -> !s
    %squares0 = kvcache.column squares of %x : (!kvr) -> !s
    %rows0 = kvcache.column rows of %x : (!kvr) -> !s
    %sum, %squares, %rows = kvcache.map "s + a; q + b; r + 1" (s = %sum0, a = %a, q = %squares0, b = %b, r = %rows0) : (!s, !s, !s, !s, !s) -> (!s, !s, !s)
    %gone, %F = kvcache.map "max(n - P - B, 0); max(1, B - floor(rr * B))" (n = %n, P = %P, B = %B, rr = %rr) : (index, index, index, f32) -> (!n, !n)
    %low, %still = kvcache.map "mean = sum / rows; -mean; select(i < P, -inf, select(i >= n - safe, -1, -max(0, squares / rows - mean * mean)))" (i = %i, P = %P, n = %n, safe = %safe, sum = %sum, squares = %squares, rows = %rows) : (!pT, index, index, index, !s, !s, !s) -> (!s, !s)
    %d = kvcache.set_column %x, sum = %sum, squares = %squares, rows = %rows : (!kvr, !s, !s, !s) -> !kvr
    %calm = kvcache.topk %still count %F along token : (!s, !n) -> !calm
    %some = kvcache.gather %low at %calm : (!s, !calm) -> !sc
    %none = kvcache.map "-inf" (x = %low) : (!s) -> !s
    %s = kvcache.scatter set %some into %none at %calm : (!sc, !s, !calm) -> !s
    %drop = kvcache.topk %s count %gone along token : (!s, !n) -> !drop
    %keep = kvcache.select.complement %drop of %d : (!drop, !kvr) -> !keep
    %y = kvcache.gather %d at %keep : (!kvr, !keep) -> !kvr
    kvcache.next out = %o : !o, @kv = %y : !kvr
  }
}
