// WindowKV, arXiv 2503.17922. Layers lie in groups of `shared_layers`; the first of a group chooses whole blocks of
// adjacent entries, and the others keep the same. The last `suffix` rows of the prompt vote, and stay. A block's score is the
// mean over all query heads of the mean of its votes, or of the better half of them (strategy=max).
// `strategy` stands for the task class that the paper's classifier finds: max (and a suffix of 32) for questions about a
// text, average (and 16) for all else.
// Budget: mean over groups, suffix included, the same for all KV heads. With C = budget - suffix groups get an arithmetic row from
// 2 C - C shared_layers / beta down to C shared_layers / beta; of S entries the ceil((S - C') / block) lowest blocks go.
// Deviations: layers that fill no group belong to the last one; every layer is scored, and the scores of others than the
// first go unused; a budget of at most the suffix keeps the newest; the number of the publication is unsure.
!sgb = !kvcache.tensor<head:Hkv, group:G, token.page:?, f32>
!j = !kvcache.tensor<token.page:?, i32>
!b = !kvcache.tensor<token.page:?, f32>
!bL = !kvcache.tensor<layer:L, token.page:?, f32>
!bF = !kvcache.tensor<layer.first:L, token.page:?, f32>
!bLF = !kvcache.tensor<layer:L, layer.first:L, token.page:?, f32>
!bh = !kvcache.tensor<head:Hkv, token.page:?, f32>
!iL = !kvcache.tensor<layer:L, i32>
!iF = !kvcache.tensor<layer.first:L, i32>
!n = !kvcache.tensor<i32>
!pages = !kvcache.index<head:Hkv, token.best:? of token.page>
kvcache.method @windowkv info {family = "select", paper = "arXiv 2503.17922", title = "WindowKV"} {
  kvcache.param @strategy = "max" in {"max", "average"}
  kvcache.param @suffix = "32 - 16 * strategy" : i64 in [1, 4096]
  kvcache.param @block = 8 : index in [1, 4096]
  kvcache.param @shared_layers = 8 : index in [1, 4096]
  kvcache.param @beta = 14 : index in [1, 4096]
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(suffix) : !qw, %kv = @kv : !kv, %T = length : index, %W = @suffix : i64, %n = @block : index, %strategy = @strategy : index) on(prompt_end) {
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %x = kvcache.map "select(i < T - W, votes, -inf)" (i = %i, T = %T, W = %W, votes = %votes) : (!pT, index, i64, !sg) -> !sg
    %sorted = kvcache.sort descending %x along token blocks %n : (!sg, index) -> !sg
    %half = kvcache.map "select(strategy == 0, max(1, floor(n / 2)), n)" (strategy = %strategy, n = %n) : (index, index) -> !n
    %top = kvcache.map "select(i - n * floor(i / n) < min(half, T - W - n * floor(i / n)), x, 0)" (i = %i, n = %n, half = %half, T = %T, W = %W, x = %sorted) : (!pT, index, !n, index, i64, !sg) -> !sg
    %sum = kvcache.blocks sum %top along token size %n : (!sg, index) -> !sgb
    %j = kvcache.iota token.page of %sum : (!sgb) -> !j
    %mean = kvcache.map "select(n * j < T - W, sum / min(half, T - W - n * j), -inf)" (sum = %sum, half = %half, T = %T, W = %W, n = %n, j = %j) : (!sgb, !n, index, i64, index, !j) -> !sgb
    %s = kvcache.reduce mean %mean over [head, group] : (!sgb) -> !b
    kvcache.next pages = %s : !b
  }
  kvcache.phase allocate (%s = pages : !bL, %B = budget : index, %L = layers : index, %W = @suffix : i64, %m = @shared_layers : index, %beta = @beta : index) scope(model) {
    %C = kvcache.map "B - W" (B = %B, W = %W) : (index, i64) -> !n
    %l = kvcache.iota layer of %s : (!bL) -> !iL
    %groups = kvcache.map "max(1, floor(L / m))" (L = %L, m = %m) : (index, index) -> !n
    %g = kvcache.map "min(floor(l / m), groups - 1)" (l = %l, m = %m, groups = %groups) : (!iL, index, !n) -> !iL
    %low = kvcache.map "min(floor(C * m / beta), 2 * C)" (C = %C, m = %m, beta = %beta) : (!n, index, index) -> !n
    %step = kvcache.map "floor((2 * C - 2 * low) / max(1, groups - 1))" (C = %C, low = %low, groups = %groups) : (!n, !n, !n) -> !n
    %b = kvcache.map "select(groups == 1, C, select(g + 1 == groups, low, 2 * C - low - g * step))" (groups = %groups, C = %C, g = %g, low = %low, step = %step) : (!n, !n, !iL, !n, !n) -> !iL
    %first = kvcache.relabel %s : (!bL) -> !bF
    %f = kvcache.relabel %l : (!iL) -> !iF
    %own = kvcache.map "select(f == g * m, s, -inf)" (f = %f, g = %g, m = %m, s = %first) : (!iF, !iL, index, !bF) -> !bLF
    %shared = kvcache.reduce max %own over [layer.first] : (!bLF) -> !bL
    kvcache.next shared = %shared : !bL, share = %b : !iL
  }
  kvcache.phase select (%s = shared : !b, %b = share : !n, %B = budget : index, %kv = @kv : !kv, %T = length : index, %W = @suffix : i64, %n = @block : index) {
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %h = kvcache.iota head of %kv : (!kv) -> !hb
    %J = kvcache.extent token.page of %s : (!b) -> index
    %x = kvcache.map "s" (s = %s, h = %h) : (!b, !hb) -> !bh
    %k = kvcache.map "select(T <= B, J, select(B <= W, 0, select(T - W <= b, J, ceil((T - W) / n) - ceil((T - W - b) / n))))" (T = %T, B = %B, J = %J, W = %W, b = %b, n = %n) : (index, index, index, i64, !n, index) -> !n
    %best = kvcache.topk %x count %k along token.page : (!bh, !n) -> !pages
    %members = kvcache.select.expand %best size %n of %kv : (!pages, index, !kv) -> !drop
    %end = kvcache.select.where "i >= T - min(W, B)" (i = %i, T = %T, W = %W, B = %B, h = %h) along token : (!pT, index, i64, index, !hb) -> !keep
    %keep = kvcache.select.union %members, %end of %kv : (!drop, !keep, !kv) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
