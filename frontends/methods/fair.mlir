// Spans that lose in proportion, and entries that never leave: "Pitfalls of KV compression", arXiv 2510.00231. A
// modifier of any method that scores entries, by default span-votes: every span of the prompt keeps
// floor(B end / T) - floor(B start / T) entries, first those that are forced, then its best.
// Request: `segments`, for each span the row behind it, ascending; `keep`, 1 for every prompt token that is forced, else 0.
// Budget: B entries per KV head at the end of the prompt. Deviation: of more forced ones than a span's share the first stay.
!span = !kvcache.tensor<segment:?, i32>
!other = !kvcache.tensor<segment.other:?, i32>
!pairs = !kvcache.tensor<segment.other:?, segment:?, i32>
!ranked = !kvcache.tensor<head:Hkv, segment:?, token:?, f32>
!best = !kvcache.index<head:Hkv, segment:?, token.best:? of token>
!found = !kvcache.tensor<head:Hkv, segment:?, token.best:?, f32>
kvcache.method @fair info {family = "select", paper = "arXiv 2510.00231", title = "Fair eviction"} {
  kvcache.param @base = "span-votes" : method
  kvcache.param @budget = 1024 : index
  kvcache.phase select (%s = score : !s, %B = budget : index, %T = length : index, %end = request(segments) : !span, %f = request(keep) : !pT) {
    %n = arith.minui %B, %T : index
    %ends = kvcache.relabel %end : (!span) -> !other
    %before = kvcache.map "select(o < e, o, 0)" (o = %ends, e = %end) : (!other, !span) -> !pairs
    %start = kvcache.reduce max %before over [segment.other] : (!pairs) -> !span
    // Whole numbers: a product of a budget and a length is no f32.
    %share = kvcache.map %start, %end, %n, %T : (!span, !span, index, index) -> !span {
    ^bb0(%a: i32, %e: i32, %k: index, %t: index):
      %first = arith.index_cast %a : i32 to index
      %behind = arith.index_cast %e : i32 to index
      %p = arith.muli %first, %k : index
      %q = arith.muli %behind, %k : index
      %low = arith.divui %p, %t : index
      %high = arith.divui %q, %t : index
      %share = arith.subi %high, %low : index
      %out = arith.index_cast %share : index to i32
      kvcache.yield %out : i32
    }
    %i = kvcache.iota token of %s : (!s) -> !pT
    %x = kvcache.map "select(i >= a & i < e, select(f > 0, inf, s), -inf)" (s = %s, i = %i, a = %start, e = %end, f = %f) : (!s, !pT, !span, !span, !pT) -> !ranked
    %best = kvcache.topk %x count %share along token : (!ranked, !span) -> !best
    %top = kvcache.gather %x at %best : (!ranked, !best) -> !found
    %one = kvcache.map "1" (x = %top) : (!found) -> !found
    %none = kvcache.map "0" (x = %s) : (!s) -> !s
    %chosen = kvcache.scatter set %one into %none at %best : (!found, !s, !best) -> !s
    %keep = kvcache.select.where "c > 0" (c = %chosen) along token : (!s) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
