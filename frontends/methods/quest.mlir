// Quest, arXiv 2406.10774. Nothing is evicted: every query reads the pages of `page` entries whose keys allow the
// largest logits, by the sum over channels of max(q lo, q hi), lo and hi the bounds of a page's keys.
// select=newest: the last page and the best others, max(1, budget / page) in all; best: the max(3, budget / page) best of
// all pages. group: how scores of the query heads of a group become one list (none: each has its own).
// Budget: entries that a query reads per KV head, in whole pages. Layers of `dense_layers`, and the prompt, read all.
// Deviation: bounds are taken of the keys anew for every query instead of being kept per page, and every query head
// holds a list; what is read is the same.
!lo = !kvcache.tensor<head:Hkv, token.page:?, channel.post:D, f32>
!bound = !kvcache.tensor<head:Hkv, group:G, query:?, token.page:?, channel.post:D, f32>
!scores = !kvcache.tensor<head:Hkv, group:G, query:?, token.page:?, f32>
!shared = !kvcache.tensor<head:Hkv, query:?, token.page:?, f32>
!j = !kvcache.tensor<token.page:?, i32>
!n = !kvcache.tensor<i32>
!pages = !kvcache.index<head:Hkv, group:G, query:?, token.best:? of token.page>
!read = !kvcache.index<head:Hkv, group:G, query:?, token.read:? of token>
kvcache.method @quest info {family = "retrieve", paper = "arXiv 2406.10774", title = "Quest"} {
  kvcache.param @page = 16 : index in [1, 4096]
  kvcache.param @group = "max" in {"max", "sum", "none"}
  kvcache.param @select = "newest" in {"newest", "best"}
  kvcache.param @dense_layers = [0, 1]
  kvcache.param @budget = 2048 : index
  kvcache.state @kv : !kv
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %B = budget : index, %n = @page : index, %g = @group : index, %best = @select : index, %dense = @dense_layers : i1) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %keys = kvcache.column k of %c : (!kv) -> !kT
    %lo = kvcache.blocks min %keys along token size %n : (!kT, index) -> !lo
    %hi = kvcache.blocks max %keys along token size %n : (!kT, index) -> !lo
    %bound = kvcache.map "max(q * lo, q * hi)" (q = %q, lo = %lo, hi = %hi) : (!q, !lo, !lo) -> !bound
    %s = kvcache.reduce sum %bound over [channel.post] : (!bound) -> !scores
    %max = kvcache.reduce max %s over [group] : (!scores) -> !shared
    %sum = kvcache.reduce sum %s over [group] : (!scores) -> !shared
    %P = kvcache.extent token.page of %lo : (!lo) -> index
    %j = kvcache.iota token.page of %lo : (!lo) -> !j
    %x = kvcache.map "select(b == 0 & j + 1 == P, inf, select(g == 0, max, select(g == 1, sum, s)))" (b = %best, j = %j, P = %P, g = %g, max = %max, sum = %sum, s = %s) : (index, !j, index, index, !shared, !shared, !scores) -> !scores
    %count = kvcache.map "select(d, P, max(floor(B / n), 1 + 2 * b))" (d = %dense, P = %P, B = %B, n = %n, b = %best) : (i1, index, index, index, index) -> !n
    %pages = kvcache.topk %x count %count along token.page : (!scores, !n) -> !pages
    %read = kvcache.select.expand %pages size %n of %c : (!pages, index, !kv) -> !read
    %o = kvcache.attend %q over %c at %read causal : (!q, !kv, !read) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kv
  }
  kvcache.phase query (%q = query : !q, %c = @kv : !kv, %B = budget : index, %n = @page : index, %g = @group : index, %best = @select : index, %dense = @dense_layers : i1) {
    %keys = kvcache.column k of %c : (!kv) -> !kT
    %lo = kvcache.blocks min %keys along token size %n : (!kT, index) -> !lo
    %hi = kvcache.blocks max %keys along token size %n : (!kT, index) -> !lo
    %bound = kvcache.map "max(q * lo, q * hi)" (q = %q, lo = %lo, hi = %hi) : (!q, !lo, !lo) -> !bound
    %s = kvcache.reduce sum %bound over [channel.post] : (!bound) -> !scores
    %max = kvcache.reduce max %s over [group] : (!scores) -> !shared
    %sum = kvcache.reduce sum %s over [group] : (!scores) -> !shared
    %P = kvcache.extent token.page of %lo : (!lo) -> index
    %j = kvcache.iota token.page of %lo : (!lo) -> !j
    %x = kvcache.map "select(b == 0 & j + 1 == P, inf, select(g == 0, max, select(g == 1, sum, s)))" (b = %best, j = %j, P = %P, g = %g, max = %max, sum = %sum, s = %s) : (index, !j, index, index, !shared, !shared, !scores) -> !scores
    %count = kvcache.map "select(d, P, max(floor(B / n), 1 + 2 * b))" (d = %dense, P = %P, B = %B, n = %n, b = %best) : (i1, index, index, index, index) -> !n
    %pages = kvcache.topk %x count %count along token.page : (!scores, !n) -> !pages
    %read = kvcache.select.expand %pages size %n of %c : (!pages, index, !kv) -> !read
    %o = kvcache.attend %q over %c at %read : (!q, !kv, !read) -> !o
    kvcache.next out = %o : !o
  }
}
