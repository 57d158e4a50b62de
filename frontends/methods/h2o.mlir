// H2O, arXiv 2306.14048. Keeps the newest budget / 2 entries and, of the older ones, those with the largest attention
// summed over every query so far. An event reads the uncut cache and evicts afterwards.
// Budget: entries per row head after every event. Row heads are KV heads, for which probabilities are summed over the
// query heads of a group, or query heads with granularity=query_head (the authors' form, of G times the memory).
!kva = !kvcache.cache<append, head:Hkv, group:Gs, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @h2o info {family = "score", paper = "arXiv 2306.14048", title = "H2O"} {
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kva
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o, %new = kvcache.attend %q over %c causal stats(sum(p, over(query, group))) : (!q, !kva) -> (!o, !sG)
    %old = kvcache.column acc of %c : (!kva) -> !sG
    %sum = kvcache.map %old, %new with arith.addf : (!sG, !sG) -> !sG
    %d = kvcache.set_column %c, acc = %sum : (!kva, !sG) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase select (%kv = @kv : !kva, %B = budget : index) on(longer(@kv, budget)) {
    %two = arith.constant 2 : index
    %recent = arith.divui %B, %two : index
    %s = kvcache.column acc of %kv : (!kva) -> !sG
    %keep = kvcache.select.topk %s budget %B last %recent : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
