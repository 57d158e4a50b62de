// Ada-KV over SnapKV's scores, arXiv 2407.11550. How many of the layer's best scores lie in a head decides how many
// entries it keeps; a share `floor` of the mean budget is guaranteed to each head.
// Score: mean over the window's rows and the group, then pooled. c_h = how many of the H (budget - window) best
// scores lie in head h; B_h = round((1 - floor) c_h + floor(floor (budget - window))) + window, half to even.
// guarantee=force (kvpress): the floor(floor budget) best entries of a head, the window among them, count before all others,
// and B_h = c_h + window; the total is exact.
// Budget: the mean over heads: KV heads, or query heads with granularity=query_head. `normalize` weighs a head by the
// share of its best scores in its sum.
kvcache.method @"ada-snapkv" info {family = "score", paper = "arXiv 2407.11550", title = "Ada-KV over SnapKV"} {
  kvcache.param @window = 32 : index in [1, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @floor = 0.2 : f32 in [0.0, 1.0]
  kvcache.param @normalize = false
  kvcache.param @guarantee = "mix" in {"mix", "force"}
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kvG
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %share = kvcache.map "votes / w" (votes = %votes, w = %w) : (!sg, index) -> !sg
    %mean = kvcache.reduce mean %share over [group] : (!sg) -> !sG
    %s = kvcache.pool pooling %mean over [token] size %n upto %S : (!sG, index, index) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase allocate (%s = score : !sG, %B = budget : index, %T = length : index, %W = @window : index, %norm = @normalize : i1) {
    %w = arith.minui %W, %B : index
    %wT = arith.minui %W, %T : index
    %S = arith.subi %T, %wT : index
    %P = arith.subi %B, %w : index
    %i = kvcache.iota token of %s : (!sG) -> !pT
    %prefix = kvcache.map "select(i < S, s, -inf)" (i = %i, S = %S, s = %s) : (!pT, index, !sG) -> !sG
    %best = kvcache.topk %prefix count %P along token : (!sG, index) -> !keepG
    %top = kvcache.gather %s at %best : (!sG, !keepG) -> !kvcache.tensor<head:Hkv, group:Gs, token.keep:?, f32>
    %part = kvcache.reduce sum %top over [token.keep] : (!kvcache.tensor<head:Hkv, group:Gs, token.keep:?, f32>) -> !hG
    %whole = kvcache.reduce sum %s over [token] : (!sG) -> !hG
    %ranked = kvcache.map "select(n, s * (part / whole), s)" (n = %norm, s = %prefix, part = %part, whole = %whole) : (i1, !sG, !hG, !hG) -> !sG
    kvcache.next ranked = %ranked : !sG
  }
  kvcache.phase allocate (%ranked = ranked : !sG, %B = budget : index, %T = length : index, %W = @window : index, %f = @floor : f32) when(@guarantee = "mix") {
    %w = arith.minui %W, %B : index
    %P = arith.subi %B, %w : index
    %kvHeads = kvcache.extent head of %ranked : (!sG) -> index
    %group = kvcache.extent group of %ranked : (!sG) -> index
    %heads = arith.muli %kvHeads, %group : index
    %total = arith.muli %heads, %P : index
    %c = kvcache.select.alloc global_topk %ranked total %total : (!sG, index) -> !hbG
    %b = kvcache.map "select(T <= B, T, round((1 - f) * c + floor(f * P)) + w)" (T = %T, B = %B, f = %f, c = %c, P = %P, w = %w) : (index, index, f32, !hbG, index, index) -> !hbG
    kvcache.next budget = %b : !hbG
  }
  kvcache.phase allocate (%ranked = ranked : !sG, %B = budget : index, %T = length : index, %W = @window : index, %f = @floor : f32) when(@guarantee = "force") {
    %w = arith.minui %W, %B : index
    %P = arith.subi %B, %w : index
    %kvHeads = kvcache.extent head of %ranked : (!sG) -> index
    %group = kvcache.extent group of %ranked : (!sG) -> index
    %heads = arith.muli %kvHeads, %group : index
    %total = arith.muli %heads, %P : index
    %sorted = kvcache.sort descending %ranked along token : (!sG) -> !sG
    %i = kvcache.iota token of %sorted : (!sG) -> !pT
    // 0.001: a share that is whole in decimals may lie below that in f32.
    %sure = kvcache.map "select(i + w < floor(f * B + 0.001), inf, s)" (i = %i, w = %w, f = %f, B = %B, s = %sorted) : (!pT, index, f32, index, !sG) -> !sG
    %c = kvcache.select.alloc global_topk %sure total %total : (!sG, index) -> !hbG
    %b = kvcache.map "select(T <= B, T, c + w)" (T = %T, B = %B, c = %c, w = %w) : (index, index, !hbG, index) -> !hbG
    kvcache.next budget = %b : !hbG
  }
  kvcache.phase select (%s = score : !sG, %b = budget : !hbG, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %b last %W : (!sG, !hbG, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
