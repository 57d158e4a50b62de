// Observed attention, after H2O, arXiv 2306.14048, once after the prompt: the attention an entry received, summed over
// the prompt's rows and divided by the number of rows that saw it, averaged over the query heads of a group.
// `normalize` = false ranks by plain sums; the newest `window` entries stay.
// Budget: entries per row head (KV heads, or query heads with granularity=query_head), window included; decode appends.
// Deviation from H2O: nothing leaves in decode, and by default no share of the budget is for the newest entries.
!kva = !kvcache.cache<append, head:Hkv, group:Gs, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @"observed-attention" info {family = "score", paper = "arXiv 2306.14048", title = "Observed attention"} {
  kvcache.param @normalize = true
  kvcache.param @window = 0 : index in [0, 1048576]
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kva
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o, %each = kvcache.attend %q over %c causal stats(sum(p, over(query))) : (!q, !kva) -> (!o, !sg)
    %new = kvcache.reduce mean %each over [group] : (!sg) -> !sG
    %old = kvcache.column acc of %c : (!kva) -> !sG
    %sum = kvcache.map %old, %new with arith.addf : (!sG, !sG) -> !sG
    %d = kvcache.set_column %c, acc = %sum : (!kva, !sG) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase score (%kv = @kv : !kva, %T = length : index, %norm = @normalize : i1) on(prompt_end) {
    %acc = kvcache.column acc of %kv : (!kva) -> !sG
    %j = kvcache.iota token of %kv : (!kva) -> !pT
    %s = kvcache.map "select(norm, acc / (T - j), acc)" (norm = %norm, acc = %acc, T = %T, j = %j) : (i1, !sG, index, !pT) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase select (%s = score : !sG, %B = budget : index, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %B last %W : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
