// KNorm, arXiv 2406.11430. Entries whose keys have the smallest L2 norm stay; no query is read.
// positions=original leaves keys where they were rotated. positions=cache holds keys before RoPE and rotates them, and the
// queries with them, to their index in the cache whenever they are read (as kvpress with key rerotation).
// Budget: that many entries per KV head. `prune_after` leaves shorter prompts alone, `skip_layers` whole layers.
// Deviation: nothing is cut by default below a length or in the first layers (the paper: 2048, layers 0 and 1).
!kvpre = !kvcache.cache<append, head:Hkv, token:?, {k [channel.pre:D] = act, v [channel.v:D] = act, pos = i32}>
!kTpre = !kvcache.tensor<head:Hkv, token:?, channel.pre:D, act>
kvcache.method @knorm info {family = "score", paper = "arXiv 2406.11430", title = "KNorm"} {
  kvcache.param @prune_after = 0 : index
  kvcache.param @skip_layers = []
  kvcache.param @positions = "original" in {"original", "cache"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv when(@positions = "original")
  kvcache.state @raw : !kvpre when(@positions = "cache")
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
  kvcache.phase score (%kv = @kv : !kv) layers(except(@skip_layers)) on(prompt_end) when(@positions = "original") {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %norm = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %s = kvcache.map %norm with arith.negf : (!s) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase score (%kv = @raw : !kvpre) layers(except(@skip_layers)) on(prompt_end) when(@positions = "cache") {
    %k = kvcache.column k of %kv : (!kvpre) -> !kTpre
    %norm = kvcache.score.norm %k over [channel.pre] : (!kTpre) -> !s
    %s = kvcache.map %norm with arith.negf : (!s) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase allocate (%B = budget : index, %T = length : index, %least = @prune_after : index) layers(except(@skip_layers)) {
    %short = arith.cmpi ult, %T, %least : index
    %n = arith.select %short, %T, %B : index
    kvcache.next budget = %n : index
  }
}
