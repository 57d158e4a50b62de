// Methods for labels.py. The comment above a method says which labels it has; every label stands on one method at least, and
// is missing from another that differs in little. Names say nothing.
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!kT = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!t = !kvcache.tensor<token:?, f32>
!h = !kvcache.tensor<head:Hkv, f32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!all = !kvcache.index<token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, x = f32}>

// Rows are added and stay. | append-only page-safe chunked-prefill-honest multi-turn-safe
kvcache.method @m1 {
  kvcache.state @kv : !kv
}

// A column of its own changes; keys and values do not. | append-only page-safe chunked-prefill-honest multi-turn-safe
kvcache.method @m2 {
  kvcache.state @kv : !kv
  kvcache.phase compress (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %n = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %d = kvcache.set_column %kv, x = %n : (!kv, !s) -> !kv
    kvcache.next @kv = %d : !kv
  }
}

// Keys change where they are, so what was read from them is no longer there. | page-safe chunked-prefill-honest multi-turn-safe
kvcache.method @m3 {
  kvcache.state @kv : !kv
  kvcache.phase compress (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %half = kvcache.map "k / 2" (k = %k) : (!kT) -> !kT
    %d = kvcache.set_column %kv, k = %half : (!kv, !kT) -> !kv
    kvcache.next @kv = %d : !kv
  }
}

// Rows leave, for each head its own. | chunked-prefill-honest multi-turn-safe
kvcache.method @m4 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %n = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %x = kvcache.column x of %kv : (!kv) -> !s
    %s = kvcache.map "n - x" (n = %n, x = %x) : (!s, !s) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// The same rows leave in all heads. | page-safe chunked-prefill-honest multi-turn-safe
kvcache.method @m5 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %n = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %s = kvcache.reduce mean %n over [head] : (!s) -> !t
    kvcache.next score = %s : !t
  }
  kvcache.phase select (%s = score : !t, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!t, index) -> !all
    kvcache.next keep = %keep : !all
  }
}

// Queries at the end of the prompt decide what leaves. | chunked-prefill-honest needs-question
kvcache.method @m6 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(4) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.score.attention %q over %kv causal stats (sum(p, over(query.win, group))) : (!qw, !kv) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// They are read, but nothing leaves. | append-only page-safe chunked-prefill-honest multi-turn-safe
kvcache.method @m7 {
  kvcache.state @kv : !kv
  kvcache.phase compress (%q = last_queries(4) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.score.attention %q over %kv causal stats (sum(p, over(query.win, group))) : (!qw, !kv) -> !s
    %d = kvcache.set_column %kv, x = %s : (!kv, !s) -> !kv
    kvcache.next @kv = %d : !kv
  }
}

// They are asked for, and not read. | chunked-prefill-honest multi-turn-safe
kvcache.method @m8 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(4) : !qw, %kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.column x of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// All queries of the prompt decide what leaves, through a column. | chunked-prefill-honest needs-question
kvcache.method @m9 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o, %new = kvcache.attend %q over %c causal stats (sum(p, over(query, group))) : (!q, !kv) -> (!o, !s)
    %old = kvcache.column x of %c : (!kv) -> !s
    %sum = kvcache.map %old, %new with arith.addf : (!s, !s) -> !s
    %d = kvcache.set_column %c, x = %sum : (!kv, !s) -> !kv
    kvcache.next out = %o : !o, @kv = %d : !kv
  }
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.column x of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// Rows leave with each piece of the prompt. | multi-turn-safe
kvcache.method @m10 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %n = @n : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    %s = kvcache.column x of %c : (!kv) -> !s
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    %d = kvcache.gather %c at %keep : (!kv, !keep) -> !kv
    kvcache.next out = %o : !o, @kv = %d : !kv
  }
}

// The same rows leave, but in decode alone. | chunked-prefill-honest multi-turn-safe
kvcache.method @m11 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %n = @n : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    %s = kvcache.column x of %c : (!kv) -> !s
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    %d = kvcache.gather %c at %keep : (!kv, !keep) -> !kv
    kvcache.next out = %o : !o, @kv = %d : !kv
  }
}

// The prompt is read again. | chunked-prefill-honest needs-question needs-extra-pass
kvcache.method @m12 {
  kvcache.param @n = 4 : index
  kvcache.state @kv : !kv
  kvcache.phase probe (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o, %new = kvcache.attend %q over %c causal stats (sum(p, over(query, group))) : (!q, !kv) -> (!o, !s)
    %d = kvcache.set_column %c, x = %new : (!kv, !s) -> !kv
    kvcache.next out = %o : !o, @kv = %d : !kv
  }
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.column x of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// A table from elsewhere. | chunked-prefill-honest multi-turn-safe needs-training
kvcache.method @m13 {
  kvcache.param @n = 4 : index
  kvcache.artefact @a : !h from file else 1.0
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv, %a = @a : !h) on(prompt_end) {
    %x = kvcache.column x of %kv : (!kv) -> !s
    %s = kvcache.map "a * x" (a = %a, x = %x) : (!h, !s) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// A table that the method makes from rows of text. | chunked-prefill-honest multi-turn-safe needs-calibration
kvcache.method @m14 {
  kvcache.param @n = 4 : index
  kvcache.artefact @a : !h
  kvcache.state @kv : !kv
  kvcache.phase calibrate (%k = key : !kT) {
    %n = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %a = kvcache.reduce mean %n over [token] : (!s) -> !h
    kvcache.next @a = %a : !h
  }
  kvcache.phase score (%kv = @kv : !kv, %a = @a : !h) on(prompt_end) {
    %x = kvcache.column x of %kv : (!kv) -> !s
    %s = kvcache.map "a * x" (a = %a, x = %x) : (!h, !s) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @n : index) {
    %keep = kvcache.topk %s count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}
