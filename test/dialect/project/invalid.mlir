// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics
!x = !kvcache.tensor<token:?, channel.post:64, f32>
func.func @project_hadamard_c1(%x: !x) {
  // expected-error@+1 {{input: expected axis 'channel.v', got 'channel.post'}}
  %0 = kvcache.project.hadamard %x along channel.v : (!x) -> !kvcache.tensor<token:?, channel.had:64, f32>
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.post:96, f32>
func.func @project_hadamard_c2(%x: !x) {
  // expected-error@+1 {{expected an axis with a power of two of values, got 'channel.post:96'}}
  %0 = kvcache.project.hadamard %x along channel.post : (!x) -> !kvcache.tensor<token:?, channel.had:96, f32>
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.post:64, f32>
func.func @project_hadamard_c3(%x: !x) {
  // expected-error@+1 {{result: expected axis 'channel.post' replaced by one of another basis, got [token:?, channel.post:64]}}
  %0 = kvcache.project.hadamard %x along channel.post : (!x) -> !x
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.post:64, f32>
!b = !kvcache.tensor<channel.post:64, f32>
func.func @project_lowrank_c1(%x: !x, %b: !b) {
  // expected-error@+1 {{basis: expected a channel axis and a rank axis, got [channel.post:64]}}
  %0 = kvcache.project.lowrank %x by %b mean %b : (!x, !b, !b) -> !x
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.pre:64, f32>
!b = !kvcache.tensor<channel.post:64, rank:8, f32>
!m = !kvcache.tensor<channel.post:64, f32>
func.func @project_lowrank_c2(%x: !x, %b: !b, %m: !m) {
  // expected-error@+1 {{input: expected axis 'channel.post', got 'channel.pre': the two are in different bases}}
  %0 = kvcache.project.lowrank %x by %b mean %m : (!x, !b, !m) -> !kvcache.tensor<token:?, rank:8, f32>
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.post:64, f32>
!b = !kvcache.tensor<channel.post:64, rank:8, f32>
!m = !kvcache.tensor<rank:8, f32>
func.func @project_lowrank_c3(%x: !x, %b: !b, %m: !m) {
  // expected-error@+1 {{mean: expected axis 'channel.post', got axes [rank:8]}}
  %0 = kvcache.project.lowrank %x by %b mean %m : (!x, !b, !m) -> !kvcache.tensor<token:?, rank:8, f32>
  return
}

// -----

!x = !kvcache.tensor<token:?, channel.post:64, f32>
!b = !kvcache.tensor<channel.post:64, rank:8, f32>
!m = !kvcache.tensor<channel.post:64, f32>
func.func @project_lowrank_c4(%x: !x, %b: !b, %m: !m) {
  // expected-error@+1 {{result: expected axis 'rank:8', got 'rank:4'}}
  %0 = kvcache.project.lowrank %x by %b mean %m : (!x, !b, !m) -> !kvcache.tensor<token:?, rank:4, f32>
  return
}
