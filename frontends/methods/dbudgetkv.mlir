// DBudgetKV (later ReFreeKV), arXiv 2502.16886. No budget: entries leave in a fixed order until the norm of the
// attention that stays has dropped by `theta`; how many that is differs from layer to layer.
// N(p) = norm of the probabilities of the candidates but the first p, averaged over heads; the cut is the largest p
// with N(0) - N(p) <= theta N(0), short of all candidates. order=position: the first `safe` entries stay, the others
// leave oldest first. order=h2o (the authors' script, with theta = 0.05, safe = 8): the newest `safe` stay, each head
// gives by ascending attention summed over the prompt; it holds the queries of the prompt, and compares all pairs of
// entries. metric=rows: mean of the last `window` rows that see a key.
// Deviation: norms=group takes the mean row of a group, because K and V are held per KV head; norms=query is the form
// with a norm for each query head, and granularity=query_head the one with entries of its own for each.
!a = !kvcache.tensor<head:Hkv, group:G, token:?, f32>
!n = !kvcache.tensor<token:?, f32>
!one = !kvcache.tensor<f32>
!count = !kvcache.tensor<i32>
!all = !kvcache.index<token.keep:? of token>
!other = !kvcache.tensor<head:Hkv, group:Gs, token.other:?, f32>
!place = !kvcache.tensor<token.other:?, i32>
!pairs = !kvcache.tensor<head:Hkv, group:Gs, token:?, token.other:?, f32>
!left = !kvcache.tensor<head:Hkv, group:G, token:?, token.other:?, f32>
!norm = !kvcache.tensor<head:Hkv, group:G, token.other:?, f32>
!mean = !kvcache.tensor<token.other:?, f32>
kvcache.method @dbudgetkv info {family = "select", paper = "arXiv 2502.16886", title = "DBudgetKV"} {
  kvcache.param @theta = 0.01 : f32 in [0.0, 1.0]
  kvcache.param @safe = 4 : index in [0, 4096]
  kvcache.param @order = "position" in {"position", "h2o"}
  kvcache.param @metric = "last" in {"last", "rows"}
  kvcache.param @window = 8 : index in [1, 4096]
  kvcache.param @norms = "group" in {"group", "query"}
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @skip_layers = []
  kvcache.state @kv : !kvG
  kvcache.phase score (%q = last_queries(1) : !qw, %kv = @kv : !kvG) layers(except(@skip_layers)) on(prompt_end) when(@metric = "last") {
    %a = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win), last(1))) : (!qw, !kvG) -> !a
    kvcache.next score = %a : !a
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %W = @window : index, %T = length : index) layers(except(@skip_layers)) on(prompt_end) when(@metric = "rows") {
    %sum = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win), last(window))) : (!qw, !kvG) -> !a
    %i = kvcache.iota token of %sum : (!a) -> !pT
    %a = kvcache.map "x / min(min(W, T), T - i)" (x = %sum, W = %W, T = %T, i = %i) : (!a, index, index, !pT) -> !a
    kvcache.next score = %a : !a
  }
  kvcache.phase allocate (%a = score : !a, %norms = @norms : index) layers(except(@skip_layers)) {
    %m = kvcache.reduce mean %a over [group] : (!a) -> !sG
    %e = kvcache.map "select(norms == 0, m * m, a * a)" (norms = %norms, a = %a, m = %m) : (index, !a, !sG) -> !a
    kvcache.next energy = %e : !a
  }
  kvcache.phase select (%e = energy : !a, %theta = @theta : f32, %safe = @safe : index) layers(except(@skip_layers)) on(prompt_end) when(@order = "position") {
    %i = kvcache.iota token of %e : (!a) -> !pT
    %c = kvcache.map "select(i >= s, e, 0)" (i = %i, s = %safe, e = %e) : (!pT, index, !a) -> !a
    %rest = kvcache.scan sum %c along token reverse : (!a) -> !a
    %norm = kvcache.map "sqrt(x)" (x = %rest) : (!a) -> !a
    %N = kvcache.reduce mean %norm over [head, group] : (!a) -> !n
    %N0 = kvcache.reduce max %N over [token] : (!n) -> !one
    %p = kvcache.map "select(i >= s & N0 - N <= t * N0, i - s, 0)" (i = %i, s = %safe, N0 = %N0, N = %N, t = %theta) : (!pT, index, !one, !n, f32) -> !pT
    %cut = kvcache.reduce max %p over [token] : (!pT) -> !count
    %keep = kvcache.select.where "i < s | i >= s + p" (i = %i, s = %safe, p = %cut) along token : (!pT, index, !count) -> !all
    kvcache.next keep = %keep : !all
  }
  kvcache.phase select (%e = energy : !a, %q = last_queries(1048576) : !qw, %kv = @kv : !kvG, %T = length : index, %theta = @theta : f32, %safe = @safe : index) layers(except(@skip_layers)) on(prompt_end) when(@order = "h2o") {
    %sum = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !a
    %s = kvcache.reduce mean %sum over [group] : (!a) -> !sG
    %i = kvcache.iota token of %s : (!sG) -> !pT
    %x = kvcache.map "select(i < T - s, x, inf)" (i = %i, T = %T, s = %safe, x = %s) : (!pT, index, index, !sG) -> !sG
    %y = kvcache.relabel %x : (!sG) -> !other
    %j = kvcache.iota token.other of %y : (!other) -> !place
    %before = kvcache.map "select(y < x | y == x & j < i, 1, 0)" (x = %x, y = %y, i = %i, j = %j) : (!sG, !other, !pT, !place) -> !pairs
    %rank = kvcache.reduce sum %before over [token.other] : (!pairs) -> !sG
    %stays = kvcache.map "select(r < T - s & r >= j, e, 0)" (r = %rank, T = %T, s = %safe, j = %j, e = %e) : (!sG, index, index, !place, !a) -> !left
    %rest = kvcache.reduce sum %stays over [token] : (!left) -> !norm
    %norm = kvcache.map "sqrt(x)" (x = %rest) : (!norm) -> !norm
    %N = kvcache.reduce mean %norm over [head, group] : (!norm) -> !mean
    %N0 = kvcache.reduce max %N over [token.other] : (!mean) -> !one
    %p = kvcache.map "select(j < T - s & N0 - N <= t * N0, j, 0)" (j = %j, T = %T, s = %safe, N0 = %N0, N = %N, t = %theta) : (!place, index, index, !one, !mean, f32) -> !place
    %cut = kvcache.reduce max %p over [token.other] : (!place) -> !count
    %keep = kvcache.select.where "r >= p" (r = %rank, p = %cut) along token : (!sG, !count) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
