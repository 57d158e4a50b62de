// The score of fair eviction (arXiv 2510.00231): the last rows of every span of the prompt vote for its earlier entries.
// Voting rows: floor(window / spans) of each span, the last one gets what is left; votes are pooled inside the span, and a
// voting entry gets its span's largest vote. One span: SnapKV's vote; a row for each span and per_layer=true: TOVA's;
// window=0: all rows of a span vote for all entries they see, by row that sees them (mean observed attention).
// Request: `segments`, for each span the row behind it. Budget: entries per KV head at the end of the prompt.
// Deviation: what a span shorter than its voting rows has too few of, the last span does not get.
!kva = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, votes = f32}>
!span = !kvcache.tensor<segment:?, i32>
!other = !kvcache.tensor<segment.other:?, i32>
!pairs = !kvcache.tensor<segment.other:?, segment:?, i32>
!rs = !kvcache.tensor<query:?, segment:?, f32>
!row = !kvcache.tensor<query:?, f32>
!hst = !kvcache.tensor<head:Hkv, segment:?, token:?, f32>
!hs = !kvcache.tensor<head:Hkv, segment:?, f32>
!st = !kvcache.tensor<token:?, f32>
kvcache.method @"span-votes" info {family = "score", paper = "arXiv 2510.00231", title = "Votes inside spans"} {
  kvcache.param @window = 64 : index in [0, 1048576]
  kvcache.param @kernel = 5 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @per_layer = false
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kva
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva, %end = request(segments) : !span, %n = length : index, %W = @window : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o = kvcache.attend %q over %c causal : (!q, !kva) -> !o
    %ends = kvcache.relabel %end : (!span) -> !other
    %before = kvcache.map "select(o < e, o, 0)" (o = %ends, e = %end) : (!other, !span) -> !pairs
    %start = kvcache.reduce max %before over [segment.other] : (!pairs) -> !span
    %S = kvcache.extent segment of %end : (!span) -> index
    %j = kvcache.iota segment of %end : (!span) -> !span
    %voters = kvcache.map "min(select(j + 1 < S, floor(W / S), W - (S - 1) * floor(W / S)), e - a)" (j = %j, S = %S, W = %W, e = %end, a = %start) : (!span, index, index, !span, !span) -> !span
    // From where to where a row of the event votes.
    %m = kvcache.extent query of %q : (!q) -> index
    %i = kvcache.iota query of %q : (!q) -> !p
    %los = kvcache.map "select(n - m + i >= a & n - m + i < e, a, 0)" (n = %n, m = %m, i = %i, a = %start, e = %end) : (index, index, !p, !span, !span) -> !rs
    %his = kvcache.map "select(n - m + i >= select(W == 0, a, e - c) & n - m + i < e, e - c, 0)" (n = %n, m = %m, i = %i, W = %W, a = %start, e = %end, c = %voters) : (index, index, !p, index, !span, !span, !span) -> !rs
    %lo = kvcache.reduce sum %los over [segment] : (!rs) -> !row
    %hi = kvcache.reduce sum %his over [segment] : (!rs) -> !row
    %t = kvcache.iota token of %c : (!kva) -> !pT
    %new = kvcache.score.reduce sum "select(t >= lo & t < hi, p, 0)" (t = %t, lo = %lo, hi = %hi) of %q over %c causal mean [group] along [query] : (!q, !kva, !pT, !row, !row) -> !s
    %old = kvcache.column votes of %c : (!kva) -> !s
    %sum = kvcache.map %old, %new with arith.addf : (!s, !s) -> !s
    %d = kvcache.set_column %c, votes = %sum : (!kva, !s) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase score (%kv = @kv : !kva, %end = request(segments) : !span, %W = @window : index, %n = @kernel : index, %all = @per_layer : i1) on(prompt_end) {
    %ends = kvcache.relabel %end : (!span) -> !other
    %before = kvcache.map "select(o < e, o, 0)" (o = %ends, e = %end) : (!other, !span) -> !pairs
    %start = kvcache.reduce max %before over [segment.other] : (!pairs) -> !span
    %S = kvcache.extent segment of %end : (!span) -> index
    %j = kvcache.iota segment of %end : (!span) -> !span
    %voters = kvcache.map "min(select(j + 1 < S, floor(W / S), W - (S - 1) * floor(W / S)), e - a)" (j = %j, S = %S, W = %W, e = %end, a = %start) : (!span, index, index, !span, !span) -> !span
    %votes = kvcache.column votes of %kv : (!kva) -> !s
    %t = kvcache.iota token of %kv : (!kva) -> !pT
    %x = kvcache.map "select(t >= a & t < e - c, v / select(W == 0, e - t, 1), 0)" (v = %votes, t = %t, a = %start, e = %end, c = %voters, W = %W) : (!s, !pT, !span, !span, !span, index) -> !hst
    %pooled = kvcache.pool avg %x over [token] size %n : (!hst, index) -> !hst
    %y = kvcache.map "select(t >= a & t < e - c, y, 0)" (y = %pooled, t = %t, a = %start, e = %end, c = %voters) : (!hst, !pT, !span, !span, !span) -> !hst
    %most = kvcache.reduce max %y over [token] : (!hst) -> !hs
    %z = kvcache.map "select(t >= e - c & t < e, most, y)" (y = %y, t = %t, most = %most, e = %end, c = %voters) : (!hst, !pT, !hs, !span, !span) -> !hst
    %each = kvcache.reduce sum %z over [segment] : (!hst) -> !s
    %mean = kvcache.reduce mean %each over [head] : (!s) -> !st
    %s = kvcache.map "select(all, mean, each)" (each = %each, mean = %mean, all = %all) : (!s, !st, i1) -> !s
    kvcache.next score = %s : !s
  }
}
