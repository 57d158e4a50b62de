// ShotKV, arXiv 2502.01941. The examples (shots) of a prompt are kept or dropped whole: in the order of the mean attention
// that their tokens get from the last `window` rows, over all heads and layers, each is taken that still fits. All other
// tokens of the prompt stay, and what stays is never touched again. Of the s entries generated so far
// max(1, floor(decode_ratio s)) stay, those that the current step attends to most, one set for all heads of a layer.
// Request: `shots`, for each part of the prompt the row behind it, ascending; `keep`, 1 for every token that is outside
// of all shots, else 0: a shot is what is left of a part.
// Budget: entries of the prompt; where those outside of the shots alone exceed it, they stay and no shot does.
// Deviation: none known; formulas are from summaries, for want of code, and the defaults of `window` and `decode_ratio` free.
!t = !kvcache.tensor<token:?, f32>
!tL = !kvcache.tensor<layer:L, token:?, f32>
!span = !kvcache.tensor<segment:?, i32>
!other = !kvcache.tensor<segment.other:?, i32>
!pairs = !kvcache.tensor<segment.other:?, segment:?, i32>
!st = !kvcache.tensor<segment:?, token:?, f32>
!m = !kvcache.tensor<segment:?, f32>
!taken = !kvcache.index<segment.keep:? of segment>
!one = !kvcache.tensor<segment.keep:?, f32>
!n = !kvcache.tensor<i32>
!pH = !kvcache.tensor<head:Hkv, token:?, i32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @shotkv info {family = "select", paper = "arXiv 2502.01941", title = "ShotKV"} {
  kvcache.param @window = 32 : index in [1, 4096]
  kvcache.param @decode_ratio = 0.4 : f32 in [0.0, 1.0]
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %p = kvcache.score.reduce sum "p" of %q over %kv causal along [query.win, group] : (!qw, !kv) -> !s
    %s = kvcache.reduce sum %p over [head] : (!s) -> !t
    kvcache.next score = %s : !t
  }
  kvcache.phase allocate (%s = score : !tL, %B = budget : index, %T = length : index, %end = request(shots) : !span, %f = request(keep) : !pT) scope(model) {
    %a = kvcache.reduce sum %s over [layer] : (!tL) -> !t
    %ends = kvcache.relabel %end : (!span) -> !other
    %before = kvcache.map "select(o < e, o, 0)" (o = %ends, e = %end) : (!other, !span) -> !pairs
    %start = kvcache.reduce max %before over [segment.other] : (!pairs) -> !span
    %i = kvcache.iota token of %a : (!t) -> !pT
    %in = kvcache.map "select(i >= a & i < e & f == 0, 1, 0)" (i = %i, a = %start, e = %end, f = %f) : (!pT, !span, !span, !pT) -> !st
    %got = kvcache.map "x * a" (x = %in, a = %a) : (!st, !t) -> !st
    %sum = kvcache.reduce sum %got over [token] : (!st) -> !m
    %size = kvcache.reduce sum %in over [token] : (!st) -> !m
    %mean = kvcache.map "sum / max(size, 1)" (sum = %sum, size = %size) : (!m, !m) -> !m
    %sizes = kvcache.map "size" (size = %size) : (!m) -> !span
    %shots = kvcache.reduce sum %sizes over [segment] : (!span) -> !n
    %room = kvcache.map "B - T + n" (B = %B, T = %T, n = %shots) : (index, index, !n) -> !n
    %best = kvcache.select.fit %mean sizes %sizes total %room : (!m, !span, !n) -> !taken
    %best1 = kvcache.gather %mean at %best : (!m, !taken) -> !one
    %ones = kvcache.map "1" (x = %best1) : (!one) -> !one
    %none = kvcache.map "0" (x = %mean) : (!m) -> !m
    %chosen = kvcache.scatter set %ones into %none at %best : (!one, !m, !taken) -> !m
    %kept = kvcache.map "select(T <= B | f > 0, 1, x * c)" (T = %T, B = %B, f = %f, x = %in, c = %chosen) : (index, index, !pT, !st, !m) -> !st
    %most = kvcache.reduce max %kept over [segment] : (!st) -> !t
    %stays = kvcache.map "most" (most = %most, s = %s) : (!t, !tL) -> !tL
    kvcache.next stays = %stays : !tL
  }
  kvcache.phase select (%stays = stays : !t) on(prompt_end) {
    %keep = kvcache.select.where "x > 0" (x = %stays) along token : (!t) -> !all
    kvcache.next keep = %keep : !all
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %t = step : index, %r = @decode_ratio : f32) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c : (!q, !kv) -> !o
    %a = kvcache.score.reduce sum "p" of %q over %c along [query, group] : (!q, !kv) -> !s
    %sum = kvcache.reduce sum %a over [head] : (!s) -> !t
    // Positions of generated entries follow each other.
    %newest = kvcache.reduce max %p over [query] : (!p) -> !n
    %pos = kvcache.column pos of %c : (!kv) -> !pH
    %last = kvcache.reduce max %pos over [head] : (!pH) -> !pT
    %s = kvcache.map "select(p > newest - t, sum, inf)" (p = %last, newest = %newest, t = %t, sum = %sum) : (!pT, !n, index, !t) -> !t
    %old = kvcache.map "select(p > newest - t, 0, 1)" (p = %last, newest = %newest, t = %t) : (!pT, !n, index) -> !pT
    %prompt = kvcache.reduce sum %old over [token] : (!pT) -> !n
    %n = kvcache.map "prompt + max(1, floor(r * t + 0.0001))" (prompt = %prompt, r = %r, t = %t) : (!n, f32, index) -> !n
    %keep = kvcache.topk %s count %n along token : (!t, !n) -> !all
    %d = kvcache.gather %c at %keep : (!kv, !all) -> !kv
    kvcache.next out = %o : !o, @kv = %d : !kv
  }
}
