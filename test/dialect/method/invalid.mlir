// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
kvcache.method @param_c1 {
  // expected-error@+1 {{expected a number, a boolean, a text or a list of integers, got unit}}
  kvcache.param @p = unit
}

// -----

kvcache.method @param_c2 {
  // expected-error@+1 {{expected @w in [1, 4096], got 0}}
  kvcache.param @w = 0 : index in [1, 4096]
}

// -----

kvcache.method @param_choices_c2 {
  // expected-error@+1 {{expected @fn in {"avg", "max"}, got "min"}}
  kvcache.param @fn = "min" in {"avg", "max"}
}

// -----

kvcache.method @state_c1 {
  // expected-error@+1 {{expected a cache, a tensor or a scalar, got 'tensor<4xf32>'}}
  kvcache.state @s : tensor<4xf32>
}

// -----

kvcache.method @state_c2 {
  // expected-error@+1 {{expected fixed {k = [@basis, @mean]} for a factor column}}
  kvcache.state @kv : !kvcache.cache<append, token:?, {k [channel.post:D] = factor<4, f16>}>
}

// -----

kvcache.method @state_dense_c2 {
  // expected-error@+1 {{expected no entry of fixed for column 'k': it holds no factor}}
  kvcache.state @kv : !kvcache.cache<append, token:?, {k [channel.post:D] = act}> fixed {k = [@a, @b]}
}

// -----

kvcache.method @state_c3 {
  // expected-error@+1 {{condition: expected a parameter of the method, got @mode}}
  kvcache.state @kv : !kvcache.cache<append, token:?, {k = f32}> when(@mode = "a")
}

// -----

kvcache.method @artefact_c1 {
  // expected-error@+1 {{expected a tensor, got 'f32'}}
  kvcache.artefact @a : f32
}

// -----

kvcache.method @artefact_c2 {
  kvcache.artefact @a : !kvcache.tensor<head:Hkv, f32> from file
  kvcache.phase calibrate (%k = key : !kvcache.tensor<head:Hkv, token:?, f32>) {
    %m = kvcache.reduce max %k over [token] : (!kvcache.tensor<head:Hkv, token:?, f32>) -> !kvcache.tensor<head:Hkv, f32>
    // expected-error@+1 {{expected no @a: the artefact is from a file}}
    kvcache.next @a = %m : !kvcache.tensor<head:Hkv, f32>
  }
}

// -----

kvcache.method @phase_c1 {
  // expected-error@+1 {{expected distinct kinds among calibrate, prefill, decode, score, allocate, select, compress, query, probe and draft, got 'rank'}}
  kvcache.phase rank (%B = budget : index) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_c2 {
  // expected-error@+1 {{unknown role 'queries'}}
  kvcache.phase score (%q = queries : f32) {
    kvcache.next score = %q : f32
  }
}

// -----

kvcache.method @phase_argument_c2 {
  // expected-error@+1 {{expected last_queries(n), draft_queries(n) or request(name), and no argument of other roles, got 'query(4)'}}
  kvcache.phase score (%q = query(4) : f32) {
    kvcache.next score = %q : f32
  }
}

// -----

kvcache.method @phase_c3 {
  // expected-error@+1 {{no state, parameter or artefact @kv in method @phase_c3}}
  kvcache.phase score (%kv = @kv : f32) {
    kvcache.next score = %kv : f32
  }
}

// -----

kvcache.method @phase_type_c3 {
  // expected-note@+1 {{declared here}}
  kvcache.param @w = 4 : index
  // expected-error@+1 {{@w: expected type 'index', got 'i64'}}
  kvcache.phase score (%w = @w : i64) {
    kvcache.next score = %w : i64
  }
}

// -----

kvcache.method @phase_c4 {
  kvcache.param @w = 4 : index
  // expected-error@+1 {{longer: expected a cache state, got @w}}
  kvcache.phase score (%B = budget : index) on(longer(@w, budget)) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_event_c4 {
  // expected-error@+1 {{expected a trigger prompt_end, step_end, longer(@state, budget) or chunks(n), got 'midnight'}}
  kvcache.phase score (%B = budget : index) on(midnight) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_chunks_c4 {
  // expected-error@+1 {{expected chunks(n) of a phase prefill}}
  kvcache.phase score (%B = budget : index) on(chunks(8)) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_c5 {
  kvcache.param @skip = 4 : index
  // expected-error@+1 {{layers(except(..)): expected a list parameter, got @skip}}
  kvcache.phase score (%B = budget : index) layers(except(@skip)) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_c6 {
  kvcache.param @mode = "a"
  // expected-error@+1 {{condition: expected a value like that of @mode, got true}}
  kvcache.phase score (%B = budget : index) when(@mode = true) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_any_c6 {
  kvcache.param @mode = "a"
  // expected-error@+1 {{condition: expected a value like that of @mode, got ["b", 1]}}
  kvcache.phase score (%B = budget : index) when(@mode = ["b", 1]) {
    kvcache.next score = %B : index
  }
}

// -----

kvcache.method @phase_c7 {
  // expected-error@+1 {{scope(model): expected a phase calibrate, allocate or select}}
  kvcache.phase score (%B = budget : index) scope(model) {
    kvcache.next score = %B : index
  }
}

// -----

!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act}>
kvcache.method @phase_cache_c7 {
  kvcache.state @kv : !kv
  // expected-error@+1 {{scope(model): expected what exists for all layers at once, got '@kv'}}
  kvcache.phase allocate (%kv = @kv : !kv, %B = budget : index) scope(model) {
    kvcache.next budget = %B : index
  }
}

// -----

!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
kvcache.method @phase_rows_c7 {
  // expected-error@+1 {{scope(model): expected what exists for all layers at once, got 'query'}}
  kvcache.phase select (%q = query : !q, %B = budget : index) scope(model) {
    kvcache.next budget = %B : index
  }
}

// -----

kvcache.method @next_c1 {
  kvcache.phase score (%B = budget : index) {
    // expected-error@+1 {{expected a result out, score, budget, keep, rows, @symbol or one that a phase of the method takes, got 'scores'}}
    kvcache.next scores = %B : index
  }
}

// -----

kvcache.method @next_twice_c1 {
  kvcache.phase score (%B = budget : index) {
    // expected-error@+1 {{result "score" appears twice}}
    kvcache.next score = %B : index, score = %B : index
  }
}

// -----

kvcache.method @next_c2 {
  kvcache.param @w = 4 : index
  kvcache.phase score (%B = budget : index) {
    // expected-error@+1 {{expected a state or an artefact, got parameter @w}}
    kvcache.next @w = %B : index
  }
}

// -----

kvcache.method @next_c3 {
  kvcache.phase prefill, decode (%i = keep : !kvcache.index<query.keep:? of query>) {
    // expected-error@+1 {{rows: expected a phase that is prefill alone and takes its prompt at once}}
    kvcache.next rows = %i : !kvcache.index<query.keep:? of query>
  }
}

// -----

kvcache.method @next_chunks_c3 {
  kvcache.phase prefill (%i = keep : !kvcache.index<query.keep:? of query>) on(chunks(16)) {
    // expected-error@+1 {{rows: expected a phase that is prefill alone and takes its prompt at once}}
    kvcache.next rows = %i : !kvcache.index<query.keep:? of query>
  }
}

// -----

kvcache.method @next_tokens_c3 {
  kvcache.phase prefill (%i = keep : !kvcache.index<token.keep:? of token>) {
    // expected-error@+1 {{rows: expected a selection of rows of the event, as !kvcache.index<query.keep:? of query>, got '!kvcache.index<token.keep:? of token>'}}
    kvcache.next rows = %i : !kvcache.index<token.keep:? of token>
  }
}

// -----

kvcache.method @next_c4 {
  kvcache.phase prefill (%i = keep : !kvcache.index<query.keep:? of query>, %t = request(word) : !kvcache.tensor<query:?, i32>) {
    // expected-error@+1 {{rows: layers see different rows, expected no table along rows, got 'request(word)'}}
    kvcache.next rows = %i : !kvcache.index<query.keep:? of query>
  }
}

// -----

// expected-error@+1 {{expected at least two methods, got [@a]}}
kvcache.compose @compose_c1 = [@a]

// -----

// expected-error@+1 {{expected distinct methods, got [@a, @a]}}
kvcache.compose @compose_twice_c1 = [@a, @a]

// -----

!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!c = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>>
kvcache.method @encoder_c1 {
  // expected-error@+1 {{expected a binding for each argument, of which one tensor is 'rows'}}
  kvcache.encoder @e () {
    kvcache.yield
  }
}

// -----

!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!c = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>>
kvcache.method @encoder_role_c1 {
  // expected-error@+1 {{expected 'rows' once, and parameters or artefacts, got 'layer'}}
  kvcache.encoder @e (%x = rows : !x, %l = layer : index) {
    %c = kvcache.quantize.encode %x : (!x) -> !c
    kvcache.yield %c : !c
  }
}

// -----

!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!c = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>>
kvcache.method @encoder_c2 {
  // expected-error@+1 {{expected a region that yields the result of one quantize.encode}}
  kvcache.encoder @e (%x = rows : !x) {
    kvcache.yield %x : !x
  }
}

// -----

!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!c = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = recent<affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>, keep(0), block(4)>}>
kvcache.method @state_block_c4 {
  kvcache.encoder @e (%x = rows : !x) {
    %c = kvcache.quantize.encode %x : (!x) -> !c
    kvcache.yield %c : !c
  }
  // expected-error@+1 {{rows of encoder 'e': expected axis 'token:4', got 'token:8'}}
  kvcache.state @kv : !kv encode {k = @e}
}

// -----

!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!c = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act}>
kvcache.method @state_codes_c4 {
  kvcache.encoder @e (%x = rows : !x) {
    %c = kvcache.quantize.encode %x : (!x) -> !c
    kvcache.yield %c : !c
  }
  // expected-error@+1 {{expected @e to yield rows of the codes of column 'k', act}}
  kvcache.state @kv : !kv encode {k = @e}
}

// -----

!x = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, act>
!c = !kvcache.tensor<head:Hkv, page:?, token:8, channel.post:D, affine<4, tile(channel:16), min_f16, scale_f16, lsb(channel)>>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act}>
kvcache.method @state_c4 {
  // expected-error@+1 {{encode: no encoder @f in method @state_c4}}
  kvcache.state @kv : !kv encode {k = @f}
}

// -----

kvcache.method @phase_c8 {
  // expected-error@+1 {{probe: expected results out and @state, got 'keep'}}
  kvcache.phase probe (%i = keep : !kvcache.index<token.keep:? of token>) {
    kvcache.next keep = %i : !kvcache.index<token.keep:? of token>
  }
}

// -----

kvcache.method @phase_c9 {
  // expected-error@+1 {{draft: expected one result keep, an index set, or new caches}}
  kvcache.phase draft (%B = budget : index) {
    kvcache.next budget = %B : index
  }
}

// -----

kvcache.method @phase_c10 {
  // expected-error@+1 {{draft_queries: expected a phase draft in the method}}
  kvcache.phase score (%q = draft_queries(8) : !kvcache.tensor<head:8, query.draft:?, channel.post:64, f16>, %B = budget : index) {
    kvcache.next budget = %B : index
  }
}

// -----

kvcache.method @phase_c11_kind {
  // expected-error@+1 {{expected text(n, tokens), repeat(n, times) or needle(n, tokens) as the one trigger of a phase calibrate of one layer}}
  kvcache.phase score (%T = length : index) on(text(4, 64)) {
    kvcache.next
  }
}

// -----

kvcache.method @phase_c11_sizes {
  // expected-error@+1 {{expected text(n, tokens), repeat(n, times) or needle(n, tokens)}}
  kvcache.phase calibrate (%T = length : index) on(repeat(4)) {
    kvcache.next
  }
}

// -----

kvcache.method @phase_c11_positive {
  // expected-error@+1 {{needle: expected sizes of at least 1, got 0}}
  kvcache.phase calibrate (%T = length : index) on(needle(0, 64)) {
    kvcache.next
  }
}

// -----

!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<head:Hkv, channel.post:D, f32>
kvcache.method @phase_c11_mean {
  kvcache.artefact @a : !m
  // expected-error@+1 {{text: the mean over sequences is taken, expected named tensors of f32, got @a}}
  kvcache.phase calibrate (%k = key : !k) on(text(4, 64)) {
    %m = kvcache.reduce mean %k over [token] : (!k) -> !m
    kvcache.next @a = %m : !m
  }
}
