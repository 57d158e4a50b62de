// SnapKV, arXiv 2404.14469. The last `window` queries of the prompt vote for the entries before them: probabilities
// summed over the window's rows, pooled along tokens, averaged over the query heads of a group.
// Budget: the window and the budget - window best of the prefix, per KV head.
// Deviation: K and V stay per KV head (the authors' code repeats them for the query heads first).
kvcache.method @snapkv info {family = "score", paper = "arXiv 2404.14469", title = "SnapKV"} {
  kvcache.param @window = 64 : index in [1, 4096]
  kvcache.param @kernel = 5 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "avg" in {"avg", "max"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %B = budget : index, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %B last %W : (!s, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
