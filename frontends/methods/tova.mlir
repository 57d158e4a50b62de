// TOVA, arXiv 2401.06104. The newest query decides: entries it attends to least, averaged over all query heads of the
// layer, are dropped, so all heads of a layer keep the same entries.
// Budget: entries after every event. `protect_newest` never drops the newest one.
!kvl = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, vote = f32}>
!st = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @tova info {family = "score", paper = "arXiv 2401.06104", title = "TOVA"} {
  kvcache.param @protect_newest = true
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kvl
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvl) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvl, !k, !v, !p) -> !kvl
    %o, %row = kvcache.attend %q over %c causal stats(sum(p, over(query), last(1))) : (!q, !kvl) -> (!o, !sg)
    %vote = kvcache.reduce mean %row over [group] : (!sg) -> !s
    %d = kvcache.set_column %c, vote = %vote : (!kvl, !s) -> !kvl
    kvcache.next out = %o : !o, @kv = %d : !kvl
  }
  kvcache.phase select (%kv = @kv : !kvl, %B = budget : index, %protect = @protect_newest : i1) on(longer(@kv, budget)) {
    %one = arith.constant 1 : index
    %none = arith.constant 0 : index
    %n = arith.select %protect, %one, %none : index
    %votes = kvcache.column vote of %kv : (!kvl) -> !s
    %s = kvcache.reduce mean %votes over [head] : (!s) -> !st
    %keep = kvcache.select.topk %s budget %B last %n : (!st, index, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
