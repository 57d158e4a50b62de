// A2SF, arXiv 2407.20485. Accumulated attention with a forgetting factor: a row's probabilities count `forgetting`
// to the power of its age, so that old entries do not win by having had more rows.
// Budget: entries per KV head after every event (decode=append: after the prompt only); the newest budget / 2 (or `recent`) never compete.
// Deviation: probabilities are summed over the query heads of a group, because K and V are held per KV head.
!kva = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
!w = !kvcache.tensor<query:?, f32>
!f = !kvcache.tensor<f32>
!n = !kvcache.tensor<i32>
kvcache.method @a2sf info {family = "score", paper = "arXiv 2407.20485", title = "A2SF"} {
  kvcache.param @forgetting = 0.2 : f32 in [0.0, 1.0]
  kvcache.param @recent = -1 : index in [-1, 1048576]
  kvcache.param @decode = "evict" in {"evict", "append"}
  kvcache.param @budget = 512 : index
  kvcache.state @kv : !kva
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva, %a = @forgetting : f32) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o = kvcache.attend %q over %c causal : (!q, !kva) -> !o
    // The newest row of the event has age 0; what is there ages by the rows of the event.
    %m = kvcache.extent query of %q : (!q) -> index
    %i = kvcache.iota query of %q : (!q) -> !p
    %age = kvcache.map "m - 1 - i" (m = %m, i = %i) : (index, !p) -> !w
    %w = kvcache.map %a, %age with math.powf : (f32, !w) -> !w
    %new = kvcache.score.reduce sum "p * w" (w = %w) of %q over %c causal along [query, group] : (!q, !kva, !w) -> !s
    %rows = kvcache.map "m" (m = %m) : (index) -> !f
    %f = kvcache.map %a, %rows with math.powf : (f32, !f) -> !f
    %old = kvcache.column acc of %c : (!kva) -> !s
    %sum = kvcache.map "f * old + new" (f = %f, old = %old, new = %new) : (!f, !s, !s) -> !s
    %d = kvcache.set_column %c, acc = %sum : (!kva, !s) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase select (%kv = @kv : !kva, %B = budget : index, %r = @recent : index, %append = @decode : index, %t = length : index, %P = prompt_length : index) on(longer(@kv, budget)) {
    %two = arith.constant 2 : index
    %half = arith.divui %B, %two : index
    %none = arith.constant 0 : index
    %given = arith.cmpi sge, %r, %none : index
    %recent = arith.select %given, %r, %half : index
    %s = kvcache.column acc of %kv : (!kva) -> !s
    %n = kvcache.map "select(append == 1 & t > P, t, B)" (append = %append, t = %t, P = %P, B = %B) : (index, index, index, index) -> !n
    %keep = kvcache.select.topk %s budget %n last %recent : (!s, !n, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
