// Lookahead Q-Cache, arXiv 2505.20334. A few tokens of an answer are drafted greedily on a throw-away cache that SnapKV
// makes (`lookahead_window`); their queries, with those of the last `window` rows of the prompt, vote for the entries of
// the full cache: probabilities summed over these rows, pooled along tokens, averaged over the query heads of a group.
// Budget: the window and the budget - window best of the prefix, per row head. window=0 votes with the draft alone.
// mask=triangle: row r of all R rows sees no entry behind T - R + r, as the published code has it.
// Deviation: a drafted token attends to drafted tokens before it, but no vote counts them.
!qd = !kvcache.tensor<head:Hkv, group:G, query.draft:?, channel.post:D, act>
!lw = !kvcache.tensor<head:Hkv, group:G, query.win:?, f32>
!ld = !kvcache.tensor<head:Hkv, group:G, query.draft:?, f32>
!ow = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.v:D, act>
!od = !kvcache.tensor<head:Hkv, group:G, query.draft:?, channel.v:D, act>
kvcache.method @laq info {family = "score", paper = "arXiv 2505.20334", title = "Lookahead Q-Cache"} {
  kvcache.param @lookahead = 8 : index in [0, 256]
  kvcache.param @lookahead_window = 32 : index in [1, 4096]
  kvcache.param @window = 8 : index in [0, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @mask = "exact" in {"exact", "triangle"}
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kvG
  kvcache.phase draft (%q = last_queries(lookahead_window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @lookahead_window : index, %n = @kernel : index, %B = budget : index) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    %keep = kvcache.select.topk %s budget %B last %W : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %d = draft_queries(lookahead) : !qd, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) when(@mask = "exact") {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %a = kvcache.score.reduce sum "p" of %q over %kv causal along [query.win] : (!qw, !kvG) -> !sg
    %b = kvcache.score.reduce sum "p" of %d over %kv along [query.draft] : (!qd, !kvG) -> !sg
    %votes = kvcache.map "a + b" (a = %a, b = %b) : (!sg, !sg) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %d = draft_queries(lookahead) : !qd, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) when(@mask = "triangle") {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %m = kvcache.extent query.draft of %d : (!qd) -> index
    // What a row gave the entries that it may see, over the whole of that.
    %ow, %lw = kvcache.attend %q over %kv causal stats(lse) : (!qw, !kvG) -> (!ow, !lw)
    %od, %ld = kvcache.attend %d over %kv stats(lse) : (!qd, !kvG) -> (!od, !ld)
    %tw, %mw = kvcache.attend %q over %kv logit "select(kpos > qpos - m, -inf, z)" (m = %m) stats(lse) : (!qw, !kvG, index) -> (!ow, !lw)
    %td, %md = kvcache.attend %d over %kv logit "select(kpos > qpos - m, -inf, z)" (m = %m) stats(lse) : (!qd, !kvG, index) -> (!od, !ld)
    %rw = kvcache.map "exp(l - m)" (l = %lw, m = %mw) : (!lw, !lw) -> !lw
    %rd = kvcache.map "exp(l - m)" (l = %ld, m = %md) : (!ld, !ld) -> !ld
    %a = kvcache.score.reduce sum "select(kpos > qpos - m, 0, p * r)" (m = %m, r = %rw) of %q over %kv causal along [query.win] : (!qw, !kvG, index, !lw) -> !sg
    %b = kvcache.score.reduce sum "select(kpos > qpos - m, 0, p * r)" (m = %m, r = %rd) of %d over %kv along [query.draft] : (!qd, !kvG, index, !ld) -> !sg
    %votes = kvcache.map "a + b" (a = %a, b = %b) : (!sg, !sg) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase select (%s = score : !sG, %B = budget : index, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %B last %W : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
