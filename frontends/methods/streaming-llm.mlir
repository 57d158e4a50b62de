// StreamingLLM, arXiv 2309.17453. Keeps the first `sinks` entries and the newest ones, after every event.
// positions=original leaves keys where they were rotated. positions=cache holds keys before RoPE and rotates them, and
// the queries with them, to their index in the cache whenever they are read (the authors' form).
// Budget: entries per KV head, sinks included.
!kvpre = !kvcache.cache<append, head:Hkv, token:?, {k [channel.pre:D] = act, v [channel.v:D] = act, pos = i32}>
!st = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @"streaming-llm" info {family = "select", paper = "arXiv 2309.17453", title = "StreamingLLM"} {
  kvcache.param @sinks = 4 : index in [0, 1048576]
  kvcache.param @positions = "original" in {"original", "cache"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv when(@positions = "original")
  kvcache.state @raw : !kvpre when(@positions = "cache")
  // Ranked by index: after the sinks, the newest are the best.
  kvcache.phase select (%kv = @kv : !kv, %B = budget : index, %n = @sinks : index) on(longer(@kv, budget)) when(@positions = "original") {
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %s = kvcache.map "i" (i = %i) : (!pT) -> !st
    %keep = kvcache.select.topk %s budget %B first %n : (!st, index, index) -> !all
    kvcache.next keep = %keep : !all
  }
  kvcache.phase select (%kv = @raw : !kvpre, %B = budget : index, %n = @sinks : index) on(longer(@raw, budget)) when(@positions = "cache") {
    %i = kvcache.iota token of %kv : (!kvpre) -> !pT
    %s = kvcache.map "i" (i = %i) : (!pT) -> !st
    %keep = kvcache.select.topk %s budget %B first %n : (!st, index, index) -> !all
    kvcache.next keep = %keep : !all
  }
  kvcache.phase prefill, decode (%q = query : !qpre, %k = key : !kpre, %v = value : !v, %p = pos : !p, %kv = @raw : !kvpre) when(@positions = "cache") {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvpre, !kpre, !v, !p) -> !kvpre
    %at = kvcache.iota token of %c : (!kvpre) -> !pT
    %view = kvcache.rope %c by %at : (!kvpre, !pT) -> !kv
    // The newest query stands at the index of the newest entry.
    %n = kvcache.extent token of %c : (!kvpre) -> index
    %m = kvcache.extent query of %q : (!qpre) -> index
    %i = kvcache.iota query of %q : (!qpre) -> !p
    %qp = kvcache.map "i + n - m" (i = %i, n = %n, m = %m) : (!p, index, index) -> !p
    %qr = kvcache.rope %q by %qp : (!qpre, !p) -> !q
    %o = kvcache.attend %qr over %view causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @raw = %c : !kvpre
  }
  kvcache.phase query (%q = query : !qpre, %p = pos : !p, %kv = @raw : !kvpre) when(@positions = "cache") {
    %at = kvcache.iota token of %kv : (!kvpre) -> !pT
    %view = kvcache.rope %kv by %at : (!kvpre, !pT) -> !kv
    // A probe stands where the next token would: behind the newest entry.
    %n = kvcache.extent token of %kv : (!kvpre) -> index
    %qp = kvcache.map "n" (p = %p, n = %n) : (!p, index) -> !p
    %qr = kvcache.rope %q by %qp : (!qpre, !p) -> !q
    %o = kvcache.attend %qr over %view : (!q, !kv) -> !o
    kvcache.next out = %o : !o
  }
}
