// RUN: kvasir-opt %s -split-input-file -verify-diagnostics --kvcache-compose="parts=a,b"
// What phases of model scope may not be, or not take.

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  // expected-error @below {{scope(model): a step ends in one layer after the other}}
  kvcache.phase allocate (%m = mass : !mL, %B = budget : index) scope(model) on(step_end) {
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !i) {
    %k = kvcache.select.topk %s budget %b : (!s, !i) -> !keep
    kvcache.next keep = %k : !keep
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  // expected-error @below {{scope(model): a step ends in one layer after the other}}
  kvcache.phase allocate (%m = mass : !mL, %B = budget : index) scope(model) on(longer(@kv, 4)) {
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !i) {
    %k = kvcache.select.topk %s budget %b : (!s, !i) -> !keep
    kvcache.next keep = %k : !keep
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.param @skip = [0]
  kvcache.state @kv : !kv
  // expected-error @below {{layers(except(..)): a phase of model scope follows, which plans from what every layer yields}}
  kvcache.phase score (%kv = @kv : !kv) layers(except(@skip)) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  kvcache.phase allocate (%m = mass : !mL, %B = budget : index) scope(model) {
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !i) {
    %k = kvcache.select.topk %s budget %b : (!s, !i) -> !keep
    kvcache.next keep = %k : !keep
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  // expected-error @below {{phase takes 'mass' as '!kvcache.tensor<layer:L, i32>', but an earlier phase yields '!kvcache.tensor<f32>' for each layer; expected the axis 'layer:L' in front}}
  kvcache.phase allocate (%m = mass : !iL) scope(model) {
    kvcache.next budget = %m : !iL
  }
  kvcache.phase select (%s = score : !s, %b = budget : !i) {
    %k = kvcache.select.topk %s budget %b : (!s, !i) -> !keep
    kvcache.next keep = %k : !keep
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  kvcache.phase allocate (%m = mass : !mL, %B = budget : index) scope(model) {
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  // expected-error @below {{phase takes 'budget' as '!kvcache.tensor<head:Hkv, i32>', but an earlier phase yields '!kvcache.tensor<layer:L, i32>' for all layers; expected its part without 'layer:L' in front}}
  kvcache.phase select (%s = score : !s, %b = budget : !kvcache.tensor<head:Hkv, i32>) {
    %k = kvcache.select.topk %s budget %b : (!s, !kvcache.tensor<head:Hkv, i32>) -> !keep
    kvcache.next keep = %k : !keep
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.phase score (%T = length : index) {
    kvcache.next rows_of = %T : index
  }
  // expected-error @below {{'rows_of' is 'index' where it is yielded: only tensors and index sets cross}}
  kvcache.phase allocate (%m = rows_of : index) scope(model) {
    kvcache.next budget = %m : index
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce sum %s over [head, token] : (!s) -> !m
    kvcache.next score = %s : !s, mass = %m : !m
  }
  kvcache.phase allocate (%m = mass : !mL, %B = budget : index) scope(model) {
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
  // expected-note @below {{this phase of one layer stands between them}}
  kvcache.phase select (%b = budget : !i) {
    kvcache.next few = %b : !i
  }
  // expected-error @below {{scope(model): expected the phases of model scope to follow each other}}
  kvcache.phase select (%b = few : !iL) scope(model) {
    kvcache.next many = %b : !iL
  }
  kvcache.phase compress (%b = many : !i, %kv = @kv : !kv) {
    kvcache.next @kv = %kv : !kv
  }
}
kvcache.method @b {
}

// -----

!s = !kvcache.tensor<head:Hkv, token:?, f32>
!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!i = !kvcache.tensor<i32>
!iL = !kvcache.tensor<layer:L, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @a {
  // expected-error @below {{calibrate: expected what an earlier phase calibrate yields, got 'mine'}}
  kvcache.phase calibrate (%L = layers : index, %k = mine : !mL) scope(model) {
    kvcache.next
  }
  kvcache.phase calibrate (%T = length : index, %k = key : !k) on(text(2, 64)) {
    %m = kvcache.reduce mean %k over [head, token, channel.post] : (!k) -> !m
    kvcache.next mine = %m : !m
  }
}
kvcache.method @b {
}

// -----

!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
kvcache.method @a {
  kvcache.artefact @own : !m
  kvcache.phase calibrate (%k = key : !k) on(text(2, 64)) {
    %m = kvcache.reduce mean %k over [head, token, channel.post] : (!k) -> !m
    kvcache.next level = %m : !m
  }
  // expected-error @below {{scope(model): expected artefacts with an axis layer:L of a phase calibrate, got @own}}
  kvcache.phase calibrate (%l = level : !mL) scope(model) {
    %n = kvcache.map "0 - l" (l = %l) : (!mL) -> !mL
    kvcache.next @own = %n : !mL
  }
}
kvcache.method @b {
}

// -----

!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
kvcache.method @a {
  kvcache.artefact @all : !kvcache.tensor<layer:L, f32>
  kvcache.phase calibrate (%k = key : !k) on(text(2, 64)) {
    %m = kvcache.reduce mean %k over [head, token, channel.post] : (!k) -> !m
    kvcache.next level = %m : !m
  }
  // expected-error @below {{phase takes 'level' as '!kvcache.tensor<f32>', but an earlier phase yields '!kvcache.tensor<f32>' for each layer; expected the axis 'layer:L' in front}}
  kvcache.phase calibrate (%l = level : !m) scope(model) {
    kvcache.next
  }
}
kvcache.method @b {
}

// -----

!k = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!m = !kvcache.tensor<f32>
kvcache.method @a {
  kvcache.phase calibrate (%k = key : !k) on(text(2, 64)) {
    %m = kvcache.reduce mean %k over [head, token, channel.post] : (!k) -> !m
    kvcache.next level = %m : !m
  }
  // expected-error @below {{calibrate: expected scope(model) to take means over sequences, got 'level'}}
  kvcache.phase calibrate (%l = level : !m) {
    kvcache.next
  }
}
kvcache.method @b {
}

// -----

!h = !kvcache.tensor<head:Hkv, f32>
!hL = !kvcache.tensor<layer:L, head:Hkv, f32>
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!iL = !kvcache.tensor<layer:L, i32>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
kvcache.method @a {
  kvcache.artefact @table : !h from file else 1.0
  kvcache.state @kv : !kv
  // expected-error @below {{expected results of phases, parameters and artefacts with an axis layer:L, got @table, which each layer has its own of}}
  kvcache.phase allocate (%t = @table : !hL, %B = budget : index) scope(model) {
    %m = kvcache.reduce sum %t over [head] : (!hL) -> !mL
    %b = kvcache.select.alloc proportional %m total %B : (!mL, index) -> !iL
    kvcache.next budget = %b : !iL
  }
}
kvcache.method @b {
}
