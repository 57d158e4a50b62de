// FastKV, arXiv 2502.01068. Every layer keeps what the last `window` queries of its prompt attend to, as SnapKV does; one
// layer, `tsp_layer`, also picks by the same votes, summed over its heads, the tokens that all deeper layers see at all.
// Budget: entries per KV head. sizing=constant: of every layer, and `tsp_length` tokens go on; proportional: `tsp_rate` of
// the tokens go on, and deeper layers keep a share of theirs that is larger by 1 / tsp_rate.
// Deviation: none. A prompt that fits the budget loses nothing, as in the published code.
!t = !kvcache.tensor<token:?, f32>
!r = !kvcache.tensor<query:?, f32>
!pass = !kvcache.index<query.keep:? of query>
!n = !kvcache.tensor<i32>
kvcache.method @fastkv info {family = "score", paper = "arXiv 2502.01068", title = "FastKV"} {
  kvcache.param @tsp_layer = 15 : index in [0, 1023]
  kvcache.param @tsp_length = 2048 : index in [1, 1048576]
  kvcache.param @tsp_rate = 0.2 : f32 in [0.001, 1.0]
  kvcache.param @sizing = "constant" in {"constant", "proportional"}
  kvcache.param @window = 8 : index in [1, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %l = layer : index, %T = rows : index, %B = budget : index, %W = @window : index, %n = @kernel : index, %tsp = @tsp_layer : index, %N = @tsp_length : index, %rate = @tsp_rate : f32, %share = @sizing : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %c causal stats(sum(p, over(query), last(window))) : (!q, !kv) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce sum %pooled over [head, group] : (!sg) -> !t
    %all = kvcache.relabel %s : (!t) -> !r
    %m = kvcache.map "select(l == tsp & T > max(B, W), select(share == 1, floor(T * rate + 0.0001), N), T)" (l = %l, tsp = %tsp, T = %T, B = %B, W = %W, share = %share, rate = %rate, N = %N) : (index, index, index, index, index, index, f32, index) -> !n
    %pass = kvcache.select.topk %all budget %m last %W : (!r, !n, index) -> !pass
    kvcache.next out = %o : !o, @kv = %c : !kv, rows = %pass : !pass
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce sum %pooled over [group] : (!sg) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %B = budget : index, %W = @window : index, %T = length : index, %P = prompt_length : index, %l = layer : index, %tsp = @tsp_layer : index, %rate = @tsp_rate : f32, %share = @sizing : index) {
    %C = kvcache.map "select(share == 1 & l > tsp, floor(T * B / (P * rate) + 0.0001), B)" (share = %share, l = %l, tsp = %tsp, T = %T, B = %B, P = %P, rate = %rate) : (index, index, index, index, index, index, f32) -> !n
    %keep = kvcache.select.topk %s budget %C last %W : (!s, !n, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
