// Finch, arXiv 2408.00167, in one pass over context and question: the rows of the question vote for the context, each
// weighed by the number of keys it sees; the question stays. Kept keys move together: with rerotate, keys are held before
// RoPE and stand at their index in the cache whenever they are read, and queries with them.
// Request: `question`, how many tokens at the end of the prompt ask it. `window`: how many of these rows vote at most.
// weigh=false: rows count alike; offset=0: a row counts for the keys before it. Budget: entries per KV head, question included.
// Deviations: the context is not read in chunks; a position is an index in the cache while it is read, too; held keys are
// rounded before their rotation.
!kvpre = !kvcache.cache<append, head:Hkv, token:?, {k [channel.pre:D] = act, v [channel.v:D] = act, pos = i32}>
!wi = !kvcache.tensor<query.win:?, i32>
!wf = !kvcache.tensor<query.win:?, f32>
kvcache.method @finch info {family = "score", paper = "arXiv 2408.00167", title = "Finch"} {
  kvcache.param @window = 32 : index in [1, 4096]
  kvcache.param @weigh = true
  kvcache.param @offset = 1 : index in [0, 1]
  kvcache.param @rerotate = true
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv when(@rerotate = false)
  kvcache.state @raw : !kvpre when(@rerotate = true)
  kvcache.phase prefill, decode (%q = query : !qpre, %k = key : !kpre, %v = value : !v, %p = pos : !p, %kv = @raw : !kvpre) when(@rerotate = true) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvpre, !kpre, !v, !p) -> !kvpre
    %at = kvcache.iota token of %c : (!kvpre) -> !pT
    %view = kvcache.rope %c by %at : (!kvpre, !pT) -> !kv
    %n = kvcache.extent token of %c : (!kvpre) -> index
    %m = kvcache.extent query of %q : (!qpre) -> index
    %i = kvcache.iota query of %q : (!qpre) -> !p
    %qp = kvcache.map "i + n - m" (i = %i, n = %n, m = %m) : (!p, index, index) -> !p
    %qr = kvcache.rope %q by %qp : (!qpre, !p) -> !q
    %o = kvcache.attend %qr over %view causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @raw = %c : !kvpre
  }
  kvcache.phase query (%q = query : !qpre, %p = pos : !p, %kv = @raw : !kvpre) when(@rerotate = true) {
    %at = kvcache.iota token of %kv : (!kvpre) -> !pT
    %view = kvcache.rope %kv by %at : (!kvpre, !pT) -> !kv
    %n = kvcache.extent token of %kv : (!kvpre) -> index
    %qp = kvcache.map "n" (p = %p, n = %n) : (!p, index) -> !p
    %qr = kvcache.rope %q by %qp : (!qpre, !p) -> !q
    %o = kvcache.attend %qr over %view : (!q, !kv) -> !o
    kvcache.next out = %o : !o
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @raw : !kvpre, %T = length : index, %n = request(question) : index, %weigh = @weigh : i1, %d = @offset : index) on(prompt_end) when(@rerotate = true) {
    %at = kvcache.iota token of %kv : (!kvpre) -> !pT
    %view = kvcache.rope %kv by %at : (!kvpre, !pT) -> !kv
    %m = kvcache.extent query.win of %q : (!qw) -> index
    %i = kvcache.iota query.win of %q : (!qw) -> !wi
    %w = kvcache.map "select(i + n >= m, select(g, T - m + i + d, 1) / min(m, n), 0)" (i = %i, n = %n, m = %m, g = %weigh, T = %T, d = %d) : (!wi, index, index, i1, index, index) -> !wf
    %s = kvcache.score.reduce sum "p * w" (w = %w) of %q over %view causal mean [group] along [query.win] : (!qw, !kv, !wf) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv, %T = length : index, %n = request(question) : index, %weigh = @weigh : i1, %d = @offset : index) on(prompt_end) when(@rerotate = false) {
    %m = kvcache.extent query.win of %q : (!qw) -> index
    %i = kvcache.iota query.win of %q : (!qw) -> !wi
    %w = kvcache.map "select(i + n >= m, select(g, T - m + i + d, 1) / min(m, n), 0)" (i = %i, n = %n, m = %m, g = %weigh, T = %T, d = %d) : (!wi, index, index, i1, index, index) -> !wf
    %s = kvcache.score.reduce sum "p * w" (w = %w) of %q over %kv causal mean [group] along [query.win] : (!qw, !kv, !wf) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %B = budget : index, %n = request(question) : index) {
    %keep = kvcache.select.topk %s budget %B last %n : (!s, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
