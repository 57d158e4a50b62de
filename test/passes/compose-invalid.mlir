// RUN: kvasir-opt %s -split-input-file -verify-diagnostics --kvcache-compose="parts=a,b set=n=3"

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.param @n = 1 : index in [0, 4]
  kvcache.state @kv : !kv
  // expected-note @below {{defined here, too; expected one method without it, or one phase that does both}}
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @b {
  kvcache.state @kv : !kv
  // expected-error @below {{phase 'score' is defined by 'b' and by 'a': a composition takes each phase from one method}}
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}

// -----

!a = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, v [channel.v:D] = act, pos = i32}>
!b = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>, v [channel.v:D] = act, pos = i32}>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !a
}
kvcache.method @b {
  // expected-error @below {{; expected one of the methods to leave it dense}}
  kvcache.state @kv : !b
}

// -----

kvcache.method @a {
  // expected-error @below {{parameter 'n' = 3}}
  kvcache.param @n = 1 : index in [0, 2]
}
kvcache.method @b {}

// -----

// expected-error @below {{unknown parameter 'n', expected one of window}}
kvcache.method @a {
  kvcache.param @window = 1 : index
}
kvcache.method @b {}

// -----

// expected-error @below {{unknown method 'b'}}
module {
  kvcache.method @a {
    kvcache.param @n = 1 : index
  }
}

// -----

// A column of the methods' own may have another name.
!a = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
!b = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = i32}>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !a
}
kvcache.method @b {
  // expected-error @below {{column 'acc' of state '@kv' is held in two ways: #kvcache.column<acc = f32> and #kvcache.column<acc = i32>; expected another name in one of the methods}}
  kvcache.state @kv : !b
}

// -----

// One name is one parameter: of one type,
kvcache.method @a {
  // expected-note @below {{declared here, too}}
  kvcache.param @n = 1 : index
}
kvcache.method @b {
  // expected-error @below {{parameter '@n' is f32 here and index in another method of the composition; expected another name in one of them}}
  kvcache.param @n = 1.0 : f32
}

// -----

// one set of texts, whose places phases count,
kvcache.method @a {
  kvcache.param @n = 1 : index
  // expected-note @below {{declared here, too}}
  kvcache.param @mode = "x" in {"x", "y"}
}
kvcache.method @b {
  // expected-error @below {{parameter '@mode' is ["y", "x"] here and ["x", "y"] in another method}}
  kvcache.param @mode = "x" in {"y", "x"}
}

// -----

// and of a value that is legal for both.
kvcache.method @a {
  // expected-note @below {{declared here, too}}
  kvcache.param @n = 1 : index
}
kvcache.method @b {
  // expected-error @below {{expected @n in [0, 2], got 3, the value of another method of the composition; set one that both allow}}
  kvcache.param @n = 1 : index in [0, 2]
}

// -----

// Rows are coded in a state to which nobody adds them.
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
!coded = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, v [channel.v:D] = act, pos = i32}>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @own : !kv
  // expected-note @below {{this 'decode' adds rows to @own; expected both methods to keep rows in one state}}
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @own : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @own = %c : !kv
  }
  kvcache.phase query (%q = query : !q, %kv = @own : !kv) {
    %o = kvcache.attend %q over %kv : (!q, !kv) -> !o
    kvcache.next out = %o : !o
  }
}
kvcache.method @b {
  // expected-error @below {{state '@kv' stays empty: no phase adds rows to it}}
  kvcache.state @kv : !coded
}

// -----

// One ranks, the other selects without asking.
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !kv
  // expected-error @below {{phase 'score' yields 'score', which no phase takes: it would decide nothing}}
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @b {
  kvcache.state @kv : !kv
  // expected-note @below {{expected this 'select' to take 'score'}}
  kvcache.phase select (%kv = @kv : !kv, %n = budget : index) on(prompt_end) {
    %x = kvcache.column acc of %kv : (!kv) -> !s
    %keep = kvcache.topk %x count %n along token : (!s, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
}

// -----

// Another method's cache may have other rows than those that are selected.
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
!notes = !kvcache.cache<append, token:?, {at = i32}>
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !kv
  // expected-note @below {{selected here}}
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @b {
  kvcache.state @kv : !kv
  // expected-error @below {{expected a 'compress' phase: its default keeps the rows that 'a' selects in every cache, but rows of '@notes' are not those of 'a'}}
  kvcache.state @notes : !notes
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %notes = @notes : !notes) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %x = kvcache.append %notes, at = %p : (!notes, !p) -> !notes
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kv, @notes = %x : !notes
  }
}

// -----

// What is kept for each head cannot be kept in a cache without heads.
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
!notes = !kvcache.cache<append, token:?, {at = i32}>
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
// expected-note @below {{selected here}}
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !kv
  // expected-error @below {{expected a 'compress' phase: its default keeps the rows of every cache that 'select' names for each 'head', but rows of '@notes' have axes [token:?]}}
  kvcache.state @notes : !notes
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %notes = @notes : !notes) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %x = kvcache.append %notes, at = %p : (!notes, !p) -> !notes
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kv, @notes = %x : !notes
  }
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @b {}

// -----

// A phase that ends an event has no rows of the event.
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
kvcache.method @a {
  kvcache.param @n = 1 : index
  kvcache.state @kv : !kv
  // expected-error @below {{'query': a phase 'score' runs when the rows of the event have gone by; expected last_queries(n)}}
  kvcache.phase score (%q = query : !q, %kv = @kv : !kv) {
    %s = kvcache.score.attention %q over %kv causal stats (sum(p, over(query, group))) : (!q, !kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @b {}
