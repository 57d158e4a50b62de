// RUN: kvasir-opt %s --kvcache-share-buffers | FileCheck %s
// A buffer lies in the memory of one that no later step uses, when it is no larger for any value of the slots.

func.func private @one(index, memref<?xf32>) -> i32
func.func private @two(index, memref<?xf32>, memref<?xf32>) -> i32
func.func private @slots(index, memref<?xi64>) -> i32

kvcache.executable "cpu" layers 1 query_heads 4 kv_heads 2 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 2 {
    kvcache.exec.column "k" width 8 as "f16"
  }

  // CHECK-LABEL: kvcache.program prompt_end
  kvcache.program prompt_end {
    %n = kvcache.slot none
    %m = kvcache.slot none
    // CHECK: %[[A:a]] = kvcache.buffer transient "a" [4, %{{.*}}] of f32{{$}}
    // CHECK: %[[B:b]] = kvcache.buffer transient "b" [%{{.*}}, 2] of f32{{$}}
    // CHECK: kvcache.buffer transient "fits" [2, %{{.*}}, 2] of f32 in %[[A]]
    // CHECK: kvcache.buffer transient "larger" [8, %{{.*}}] of f32{{$}}
    // CHECK: kvcache.buffer transient "other" [4, %{{.*}}] of f32{{$}}
    // CHECK: kvcache.buffer transient "reported" [2, %{{.*}}] of f32 in %[[B]]
    %a = kvcache.buffer transient "a" [4, %n] of f32
    %b = kvcache.buffer transient "b" [%n, 2] of f32
    %fits = kvcache.buffer transient "fits" [2, %n, 2] of f32
    %larger = kvcache.buffer transient "larger" [8, %n] of f32
    %other = kvcache.buffer transient "other" [4, %m] of f32
    %reported = kvcache.buffer transient "reported" [2, %n] of f32
    kvcache.step.store_rows @kv by 1 into %n
    kvcache.step.store_rows @kv by 64 into %m
    kvcache.step.launch @two grid [] (%a, %b) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @two grid [] (%fits, %b) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%larger) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%other) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%reported) attributes {ops = [], status = "fused", phase = ""}
    kvcache.ranked %reported
  }

  // What is reported after the program is never written over.
  // CHECK-LABEL: kvcache.program step_end
  kvcache.program step_end {
    // CHECK: kvcache.buffer transient "reported" [2] of f32{{$}}
    // CHECK: kvcache.buffer transient "late" [2] of f32{{$}}
    %reported = kvcache.buffer transient "reported" [2] of f32
    %late = kvcache.buffer transient "late" [2] of f32
    kvcache.step.launch @one grid [] (%reported) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%late) attributes {ops = [], status = "fused", phase = ""}
    kvcache.ranked %reported
  }

  // Slots that change between the first uses make sizes that cannot be compared.
  // CHECK-LABEL: kvcache.program decode
  kvcache.program decode {
    // CHECK: kvcache.buffer transient "a" [%{{.*}}] of f32{{$}}
    // CHECK: kvcache.buffer transient "b" [%{{.*}}] of f32{{$}}
    %n = kvcache.slot rows
    %a = kvcache.buffer transient "a" [%n] of f32
    %b = kvcache.buffer transient "b" [%n] of f32
    kvcache.step.launch @one grid [] (%a) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @slots grid [] ([%n]) writes_slots attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%b) attributes {ops = [], status = "fused", phase = ""}
  }

  // A use inside a guard counts like any other.
  // CHECK-LABEL: kvcache.program ingest
  kvcache.program ingest {
    // CHECK: %[[A:a]] = kvcache.buffer transient "a" [2] of f32{{$}}
    // CHECK: kvcache.buffer transient "during" [2] of f32{{$}}
    // CHECK: kvcache.buffer transient "after" [2] of i32 in %[[A]]
    %n = kvcache.slot rows
    %a = kvcache.buffer transient "a" [2] of f32
    %during = kvcache.buffer transient "during" [2] of f32
    %after = kvcache.buffer transient "after" [2] of i32
    kvcache.step.launch @one grid [] (%a) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%during) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.guard %n {
      kvcache.step.launch @two grid [] (%a, %during) attributes {ops = [], status = "fused", phase = ""}
    }
    kvcache.step.launch @one grid [] (%after) attributes {ops = [], status = "fused", phase = ""}
  }

  // The rows of a read are the executor's when the program is done.
  // CHECK-LABEL: kvcache.program read
  kvcache.program read {
    // CHECK: kvcache.buffer transient "k" [2] of f32{{$}}
    // CHECK: kvcache.buffer transient "v" [2] of f32{{$}}
    %k = kvcache.buffer transient "k" [2] of f32
    %v = kvcache.buffer transient "v" [2] of f32
    kvcache.step.launch @one grid [] (%k) attributes {ops = [], status = "fused", phase = ""}
    kvcache.step.launch @one grid [] (%v) attributes {ops = [], status = "fused", phase = ""}
  }
}
