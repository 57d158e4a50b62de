// HeadKV, arXiv 2410.19258. SnapKV's scores; how many entries a head keeps follows its score in a calibrated table, the
// artefact `head_scores` of all layers and query heads. Without a table all heads get the same.
// Calibration asks for a needle, `needles` times, and looks at the `answer` rows that produce the answer. profile=copy: a head
// scores 1 / |needle| when the entry it looks at most lies in the needle and is the token produced; reason: p / |needle| of
// each of its |needle| best entries that lies in the needle.
// Budget: the mean over all heads, window included, up to rounding. Of P = budget - window a part pool = floor(P / beta)
// is shared by score, the rest is equal: round(share pool L Hq + P - pool) prefix entries of a query head, halves to even.
// `temperature` is a power on the shares. With granularity=kv_head a head keeps the rounded mean of its group's numbers.
!m = !kvcache.tensor<f32>
!hg = !kvcache.tensor<head:Hkv, group:G, f32>
!sT = !kvcache.tensor<token:?, f32>
!made = !kvcache.tensor<query.win:?, i32>
!rows = !kvcache.tensor<head:Hkv, group:G, query.win:?, token:?, f32>
!best = !kvcache.tensor<head:Hkv, group:G, query.win:?, f32>
!table = !kvcache.tensor<layer:L, head:Hkv, group:G, f32>
!mean = !kvcache.tensor<layer:L, head:Hkv, group:Gs, f32>
!b = !kvcache.tensor<layer:L, head:Hkv, group:Gs, i32>
kvcache.method @headkv info {family = "allocate", paper = "arXiv 2410.19258", title = "HeadKV"} {
  kvcache.param @window = 32 : index in [1, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @beta = 1.5 : f32 in [1.0, 4096.0]
  kvcache.param @temperature = 1.0 : f32 in [0.0, 64.0]
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 1024 : index
  kvcache.param @profile = "copy" in {"copy", "reason"}
  kvcache.param @needles = 20 : index in [1, 4096]
  kvcache.param @needle_length = 1024 : index in [128, 1048576]
  kvcache.param @answer = 5 : index in [1, 4096]
  kvcache.artefact @head_scores : !table else 1.0
  kvcache.state @kv : !kvG
  kvcache.phase calibrate (%q = last_queries(answer) : !qw, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvG, %ids = ids : !p, %needle = request(needle) : !pT, %made = request(produced) : !p, %T = length : index, %n = @answer : index, %reason = @profile : index) on(needle(needles, needle_length)) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvG, !k, !v, !p) -> !kvG
    %P = kvcache.score.reduce sum "p" of %q over %c causal along [] : (!qw, !kvG) -> !rows
    %id = kvcache.relabel %ids : (!p) -> !pT
    %w = arith.minui %n, %T : index
    %from = arith.subi %T, %w : index
    %last = kvcache.slice %made along query from %from size %w : (!p, index, index) -> !p
    %y = kvcache.relabel %last : (!p) -> !made
    %in = kvcache.map "select(m == 1, 1, 0)" (m = %needle) : (!pT) -> !sT
    %size = kvcache.reduce sum %in over [token] : (!sT) -> !m
    %top = kvcache.reduce max %P over [token] : (!rows) -> !best
    %hit = kvcache.map "select(m == 1 & id == y, p, -1)" (m = %needle, id = %id, y = %y, p = %P) : (!pT, !pT, !made, !rows) -> !rows
    %found = kvcache.reduce max %hit over [token] : (!rows) -> !best
    %sorted = kvcache.sort descending %P along token : (!rows) -> !rows
    %i = kvcache.iota token of %sorted : (!rows) -> !pT
    %at = kvcache.map "select(i == n - 1, p, -1)" (i = %i, n = %size, p = %sorted) : (!pT, !m, !rows) -> !rows
    %least = kvcache.reduce max %at over [token] : (!rows) -> !best
    %some = kvcache.map "select(m == 1 & p >= l, p / n, 0)" (m = %needle, p = %P, l = %least, n = %size) : (!pT, !rows, !best, !m) -> !rows
    %mass = kvcache.reduce sum %some over [token] : (!rows) -> !best
    %row = kvcache.map "select(r == 1, x, select(f >= t, 1 / n, 0))" (r = %reason, x = %mass, f = %found, t = %top, n = %size) : (index, !best, !best, !best, !m) -> !best
    %score = kvcache.reduce sum %row over [query.win] : (!best) -> !hg
    kvcache.next seen = %score : !hg
  }
  kvcache.phase calibrate (%s = seen : !table) scope(model) {
    // A table of zeros says nothing: all heads get the same.
    %whole = kvcache.reduce sum %s over [layer, head, group] : (!table) -> !m
    %t = kvcache.map "select(w > 0, s, 1)" (w = %whole, s = %s) : (!m, !table) -> !table
    kvcache.next @head_scores = %t : !table
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase allocate (%table = @head_scores : !table, %B = budget : index, %T = length : index, %W = @window : index, %beta = @beta : f32, %temp = @temperature : f32) scope(model) {
    %w = arith.minui %W, %B : index
    %P = arith.subi %B, %w : index
    %ones = kvcache.map "1.0" (t = %table) : (!table) -> !table
    %n = kvcache.reduce sum %ones over [layer, head, group] : (!table) -> !m
    %power = kvcache.map "select(x == 1, t, exp(x * log(t)))" (x = %temp, t = %table) : (f32, !table) -> !table
    %whole = kvcache.reduce sum %power over [layer, head, group] : (!table) -> !m
    %count = kvcache.map "round(t / whole * floor(P / beta) * n + P - floor(P / beta))" (t = %power, whole = %whole, P = %P, beta = %beta, n = %n) : (!table, !m, index, f32, !m) -> !table
    %mean = kvcache.reduce mean %count over [group] : (!table) -> !mean
    %b = kvcache.map "select(T <= B, B, round(mean) + w)" (T = %T, B = %B, mean = %mean, w = %w) : (index, index, !mean, index) -> !b
    kvcache.next budget = %b : !b
  }
  kvcache.phase select (%s = score : !sG, %b = budget : !hbG, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %b last %W : (!sG, !hbG, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
