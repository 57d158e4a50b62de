// KVCompose, arXiv 2509.05165. The prompt is fed a second time, behind itself; an entry's score is the largest (or mean)
// probability that a row of this pass gave it, over the query heads of a group, plus the mean of that over KV heads.
// Every head ranks its own entries; rank r of all heads is one composite entry, scored by their mean. How many of the
// best composite entries of all layers lie in a layer is what each of its heads keeps; layer 0 never keeps fewest.
// Budget: the mean over layers; with structured=false the mean over layers and heads, which then differ in length.
!acc = !kvcache.tensor<head:Hkv, token:?, group:G, f32>
!kva = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc [group:G] = f32, rows = f32}>
!sL = !kvcache.tensor<layer:L, head:Hkv, token:?, f32>
!zL = !kvcache.tensor<layer:L, token:?, f32>
!z = !kvcache.tensor<token:?, f32>
!iL = !kvcache.tensor<layer:L, i32>
!hL = !kvcache.tensor<layer:L, head:Hkv, i32>
kvcache.method @kvcompose info {family = "allocate", paper = "arXiv 2509.05165", title = "KVCompose"} {
  kvcache.param @structured = true
  kvcache.param @agg_task = "max" in {"max", "mean"}
  kvcache.param @agg_group = "mean" in {"max", "mean"}
  kvcache.param @agg_head = "mean" in {"max", "mean"}
  kvcache.param @add_v_norm = false
  kvcache.param @add_mean_across_heads = true
  kvcache.param @keep_lower_bound = 0 : index in [0, 1048576]
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kva
  kvcache.phase probe (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva) when(@agg_task = "max") {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o = kvcache.attend %q over %c causal : (!q, !kva) -> !o
    %new = kvcache.score.reduce max "p" of %q over %c causal along [query] : (!q, !kva) -> !sg
    %old = kvcache.column acc of %c : (!kva) -> !acc
    %max = kvcache.map "max(old, new)" (old = %old, new = %new) : (!acc, !sg) -> !acc
    %d = kvcache.set_column %c, acc = %max : (!kva, !acc) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase probe (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva) when(@agg_task = "mean") {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o = kvcache.attend %q over %c causal : (!q, !kva) -> !o
    %new = kvcache.score.reduce sum "p" of %q over %c causal along [query] : (!q, !kva) -> !sg
    %old = kvcache.column acc of %c : (!kva) -> !acc
    %sum = kvcache.map "old + new" (old = %old, new = %new) : (!acc, !sg) -> !acc
    %before = kvcache.column rows of %c : (!kva) -> !s
    %m = kvcache.extent query of %q : (!q) -> index
    %rows = kvcache.map "before + m" (before = %before, m = %m) : (!s, index) -> !s
    %d = kvcache.set_column %c, acc = %sum, rows = %rows : (!kva, !acc, !s) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase score (%kv = @kv : !kva, %g = @agg_group : index, %norms = @add_v_norm : i1, %shared = @add_mean_across_heads : i1) on(prompt_end) {
    %acc = kvcache.column acc of %kv : (!kva) -> !acc
    %rows = kvcache.column rows of %kv : (!kva) -> !s
    %a = kvcache.map "acc / max(rows, 1)" (acc = %acc, rows = %rows) : (!acc, !s) -> !acc
    %most = kvcache.reduce max %a over [group] : (!acc) -> !s
    %mean = kvcache.reduce mean %a over [group] : (!acc) -> !s
    %v = kvcache.column v of %kv : (!kva) -> !vT
    %norm = kvcache.score.norm %v over [channel.v] : (!vT) -> !s
    %own = kvcache.map "select(g == 0, most, mean) * select(norms, norm, 1)" (g = %g, most = %most, mean = %mean, norms = %norms, norm = %norm) : (index, !s, !s, i1, !s) -> !s
    %all = kvcache.reduce mean %own over [head] : (!s) -> !z
    %s = kvcache.map "own + select(shared, all, 0)" (own = %own, shared = %shared, all = %all) : (!s, i1, !z) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase allocate (%s = score : !sL, %B = budget : index, %L = layers : index, %h = @agg_head : index, %low = @keep_lower_bound : index) scope(model) when(@structured = true) {
    %n = arith.muli %B, %L : index
    %ranked = kvcache.sort descending %s along token : (!sL) -> !sL
    %most = kvcache.reduce max %ranked over [head] : (!sL) -> !zL
    %mean = kvcache.reduce mean %ranked over [head] : (!sL) -> !zL
    %r = kvcache.iota token of %most : (!zL) -> !pT
    %z = kvcache.map "select(r < low, inf, select(h == 0, most, mean))" (r = %r, low = %low, h = %h, most = %most, mean = %mean) : (!pT, index, index, !zL, !zL) -> !zL
    %top = kvcache.reduce max %z over [layer] : (!zL) -> !z
    %l = kvcache.iota layer of %z : (!zL) -> !iL
    %Z = kvcache.map "select(l == 0, top, z)" (l = %l, top = %top, z = %z) : (!iL, !z, !zL) -> !zL
    %b = kvcache.select.alloc global_topk %Z total %n : (!zL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase allocate (%s = score : !sL, %B = budget : index, %L = layers : index, %low = @keep_lower_bound : index) scope(model) when(@structured = false) {
    %H = kvcache.extent head of %s : (!sL) -> index
    %BL = arith.muli %B, %L : index
    %n = arith.muli %BL, %H : index
    %ranked = kvcache.sort descending %s along token : (!sL) -> !sL
    %r = kvcache.iota token of %s : (!sL) -> !pT
    %z = kvcache.map "select(r < low, inf, s)" (r = %r, low = %low, s = %ranked) : (!pT, index, !sL) -> !sL
    %b = kvcache.select.alloc global_topk %z total %n : (!sL, index) -> !hL
    kvcache.next budget = %b : !hL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !kvcache.tensor<i32>) when(@structured = true) {
    %keep = kvcache.select.topk %s budget %b : (!s, !kvcache.tensor<i32>) -> !keep
    kvcache.next keep = %keep : !keep
  }
  kvcache.phase select (%s = score : !s, %b = budget : !hb) when(@structured = false) {
    %keep = kvcache.select.topk %s budget %b : (!s, !hb) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
