// SnapKV, arXiv 2404.14469. The last `window` queries of the prompt vote for the entries before them: probabilities
// summed over the window's rows, pooled along tokens, averaged over the query heads of a group.
// Budget: the window and the budget - window best of the prefix, per row head: KV heads, or query heads with
// granularity=query_head (the authors' form, which repeats K and V for the query heads first; G times the memory).
kvcache.method @snapkv info {family = "score", paper = "arXiv 2404.14469", title = "SnapKV"} {
  kvcache.param @window = 64 : index in [1, 4096]
  kvcache.param @kernel = 5 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "avg" in {"avg", "max"}
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kvG
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase select (%s = score : !sG, %B = budget : index, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %B last %W : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
