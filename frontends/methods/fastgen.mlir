// FastGen, arXiv 2310.01801. Every head has the cheapest policy whose entries get the share `recovery` of its attention over
// the prompt (means over the query heads of a group): 0 special tokens, 1 and punctuation, 2 and the ceil(heavy T) others with
// the largest mean attention, 3 and the last max(1, floor(local T)) up to each row, 4 everything; all of them the first
// `global_tokens`. In decode a new entry of no such class leaves at once (0, 1), or another one does (2, 3) once the head has
// more than it had room for at the end of the prompt: of those that are in no class, not global and not among the last
// (the newest, or those of 3), the one with the least mean attention over the newest `history` rows that saw it.
// Request: `special` and `punctuation`, the ids of these tokens. Budget: none, sizes follow from the data.
// Deviation: the test is the share that is recovered, of which the paper's distance is a bound; defaults are those of the code it points to.
// `seen` is a ring of what rows gave an entry, row t of the sequence at place t mod history: at least 1e-30, because 0 says that
// the row did not see it. It takes 4 history bytes an entry. `policy` is the same in all entries of a head.
!kvf = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, class = i32, policy = i32, seen [code:history] = f32}>
!ids = !kvcache.tensor<code.id:?, i32>
!is = !kvcache.tensor<query:?, code.id:?, i32>
!i = !kvcache.tensor<head:Hkv, token:?, i32>
!w = !kvcache.tensor<query.win:?, i32>
!n = !kvcache.tensor<i32>
!ql = !kvcache.tensor<head:Hkv, group:G, query.late:?, channel.post:D, act>
!late = !kvcache.tensor<query.late:?, i32>
!p3 = !kvcache.tensor<head:Hkv, query.late:?, token:?, f32>
!at = !kvcache.tensor<query.late:?, code:history, f32>
!c = !kvcache.tensor<code:history, i32>
!seen = !kvcache.tensor<head:Hkv, token:?, code:history, f32>
!heavy = !kvcache.index<head:Hkv, token.heavy:? of token>
!hs = !kvcache.tensor<head:Hkv, token.heavy:?, f32>
kvcache.method @fastgen info {family = "allocate", paper = "arXiv 2310.01801", title = "FastGen"} {
  kvcache.param @global_tokens = 4 : index in [0, 4096]
  kvcache.param @heavy = 0.3 : f32 in [0.0, 1.0]
  kvcache.param @local = 0.3 : f32 in [0.0, 1.0]
  kvcache.param @recovery = 0.9 : f32 in [0.0, 2.0]
  kvcache.param @history = 400 : i64 in [1, 4096]
  kvcache.state @kv : !kvf
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %ids = ids : !p, %special = request(special) : !ids, %marks = request(punctuation) : !ids, %kv = @kv : !kvf) {
    %is1 = kvcache.map "select(i == a, 1, 0)" (i = %ids, a = %special) : (!p, !ids) -> !is
    %is2 = kvcache.map "select(i == a, 1, 0)" (i = %ids, a = %marks) : (!p, !ids) -> !is
    %some1 = kvcache.reduce sum %is1 over [code.id] : (!is) -> !p
    %some2 = kvcache.reduce sum %is2 over [code.id] : (!is) -> !p
    %class = kvcache.map "select(a > 0, 1, select(b > 0, 2, 0))" (a = %some1, b = %some2) : (!p, !p) -> !p
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p, class = %class : (!kvf, !k, !v, !p, !p) -> !kvf
    %o = kvcache.attend %q over %c causal : (!q, !kvf) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kvf
  }
  kvcache.phase compress (%q = last_queries(1048576) : !qw, %late = last_queries(history) : !ql, %kv = @kv : !kvf, %T = length : index, %f = @global_tokens : index, %h = @heavy : f32, %l = @local : f32, %share = @recovery : f32, %H = @history : i64) on(prompt_end) {
    %i = kvcache.iota token of %kv : (!kvf) -> !pT
    %w = kvcache.iota query.win of %q : (!qw) -> !w
    %all = kvcache.score.reduce sum "p" of %q over %kv causal mean [group] along [query.win] : (!qw, !kvf) -> !s
    %near = kvcache.score.reduce sum "select(w - i < max(1, floor(l * T + 0.0001)), p, 0)" (w = %w, i = %i, l = %l, T = %T) of %q over %kv causal mean [group] along [query.win] : (!qw, !kvf, !w, !pT, f32, index) -> !s
    %class = kvcache.column class of %kv : (!kvf) -> !i
    %mean, %none = kvcache.map "select(i < f | c > 0, -inf, all / (T - i)); -inf" (all = %all, i = %i, f = %f, c = %class, T = %T) : (!s, !pT, index, !i, index) -> (!s, !s)
    %n = kvcache.map "ceil(h * T - 0.0001)" (h = %h, T = %T) : (f32, index) -> !n
    %heavy = kvcache.topk %mean count %n along token : (!s, !n) -> !heavy
    %best = kvcache.gather %mean at %heavy : (!s, !heavy) -> !hs
    %top = kvcache.scatter set %best into %none at %heavy : (!hs, !s, !heavy) -> !s
    // The cheapest policy that still has the entry after the last row.
    %least = kvcache.map "select(i < f | c == 1, 0, select(c == 2, 1, select(top > -inf, 2, select(T - 1 - i < max(1, floor(l * T + 0.0001)), 3, 4))))" (c = %class, i = %i, f = %f, top = %top, T = %T, l = %l) : (!i, !pT, index, !s, index, f32) -> !i
    %x0, %x1, %x2, %x3 = kvcache.map "select(least == 0, all, 0); select(least <= 1, all, 0); select(least <= 2, all, 0); select(least <= 2, all, near)" (least = %least, all = %all, near = %near) : (!i, !s, !s) -> (!s, !s, !s, !s)
    %r0 = kvcache.reduce sum %x0 over [token] : (!s) -> !h
    %r1 = kvcache.reduce sum %x1 over [token] : (!s) -> !h
    %r2 = kvcache.reduce sum %x2 over [token] : (!s) -> !h
    %r3 = kvcache.reduce sum %x3 over [token] : (!s) -> !h
    %pol = kvcache.map "x = r * T; select(a >= x, 0, select(b >= x, 1, select(c >= x, 2, select(d >= x, 3, 4))))" (a = %r0, b = %r1, c = %r2, d = %r3, r = %share, T = %T) : (!h, !h, !h, !h, f32, index) -> !hb
    %m = kvcache.extent query.late of %late : (!ql) -> index
    %j = kvcache.iota query.late of %late : (!ql) -> !late
    %p = kvcache.score.reduce sum "max(p, 1e-30)" of %late over %kv causal mean [group] along [] : (!ql, !kvf) -> !p3
    %place = kvcache.iota code of %kv : (!kvf) -> !c
    %at = kvcache.map "t = T - m + j; select(x == t - H * floor(t / H), 1, 0)" (T = %T, m = %m, j = %j, x = %place, H = %H) : (index, index, !late, !c, i64) -> !at
    %seen = kvcache.contract %p, %at over [query.late] : (!p3, !at) -> !seen
    %pols = kvcache.map "pol" (pol = %pol, c = %class) : (!hb, !i) -> !i
    %d = kvcache.set_column %kv, policy = %pols, seen = %seen : (!kvf, !i, !seen) -> !kvf
    %keep = kvcache.select.where "least <= pol" (least = %least, pol = %pol) along token : (!i, !hb) -> !keep
    %e = kvcache.gather %d at %keep : (!kvf, !keep) -> !kvf
    kvcache.next @kv = %e : !kvf
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %ids = ids : !p, %special = request(special) : !ids, %marks = request(punctuation) : !ids, %kv = @kv : !kvf, %t = length : index, %T = prompt_length : index, %f = @global_tokens : index, %h = @heavy : f32, %l = @local : f32, %H = @history : i64) {
    %is1 = kvcache.map "select(i == a, 1, 0)" (i = %ids, a = %special) : (!p, !ids) -> !is
    %is2 = kvcache.map "select(i == a, 1, 0)" (i = %ids, a = %marks) : (!p, !ids) -> !is
    %some1 = kvcache.reduce sum %is1 over [code.id] : (!is) -> !p
    %some2 = kvcache.reduce sum %is2 over [code.id] : (!is) -> !p
    %class = kvcache.map "select(a > 0, 1, select(b > 0, 2, 0))" (a = %some1, b = %some2) : (!p, !p) -> !p
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p, class = %class : (!kvf, !k, !v, !p, !p) -> !kvf
    %o = kvcache.attend %q over %c causal : (!q, !kvf) -> !o
    %a = kvcache.score.reduce max "p" of %q over %c mean [group] along [query] : (!q, !kvf) -> !s
    %place = kvcache.iota code of %c : (!kvf) -> !c
    %old = kvcache.column seen of %c : (!kvf) -> !seen
    %seen = kvcache.map "r = t - 1; select(x == r - H * floor(r / H), max(a, 1e-30), old)" (x = %place, t = %t, H = %H, a = %a, old = %old) : (!c, index, i64, !s, !seen) -> !seen
    %known = kvcache.column policy of %c : (!kvf) -> !i
    %pol = kvcache.reduce max %known over [token] : (!i) -> !hb
    %classes = kvcache.column class of %c : (!kvf) -> !i
    %pols = kvcache.map "pol" (pol = %pol, c = %classes) : (!hb, !i) -> !i
    %sum = kvcache.reduce sum %seen over [code] : (!seen) -> !s
    %rows = kvcache.reduce count %seen over [code] : (!seen) -> !i
    %n = kvcache.reduce count %rows over [token] : (!i) -> !hb
    %marked = kvcache.reduce count %classes over [token] : (!i) -> !hb
    %mine = kvcache.reduce max %class over [query] : (!p) -> !n
    %gone = kvcache.map "select(pol == 4 | t <= f | c == 1 | (c == 2 & pol > 0) | (pol > 1 & n <= f + m + ceil(h * T - 0.0001) + select(pol == 3, max(1, floor(l * T + 0.0001)), 0)), 0, 1)" (pol = %pol, t = %t, f = %f, c = %mine, n = %n, m = %marked, h = %h, T = %T, l = %l) : (!hb, index, index, !n, !hb, !hb, f32, index, f32) -> !hb
    %i = kvcache.iota token of %c : (!kvf) -> !pT
    %s = kvcache.map "select(pol < 2, i, select(i < f | c > 0 | i >= n - select(pol == 3, max(1, floor(l * T + 0.0001)), 1), -inf, -(sum / rows)))" (pol = %pol, i = %i, f = %f, c = %classes, n = %n, l = %l, T = %T, sum = %sum, rows = %rows) : (!hb, !pT, index, !i, !hb, f32, index, !s, !i) -> !s
    %drop = kvcache.topk %s count %gone along token : (!s, !hb) -> !drop
    %d = kvcache.set_column %c, policy = %pols, seen = %seen : (!kvf, !i, !seen) -> !kvf
    %keep = kvcache.select.complement %drop of %d : (!drop, !kvf) -> !keep
    %e = kvcache.gather %d at %keep : (!kvf, !keep) -> !kvf
    kvcache.next out = %o : !o, @kv = %e : !kvf
  }
}
