// RUN: kvasir-opt %s --kvcache-compose="parts=masks,keeps,plain" --kvcache-compose="parts=one,two" | FileCheck %s
// Selected rows are gathered before other phases that compress, whichever part comes first: their indices are those of the rows that
// the selection saw. A part that stores rows uncoded elsewhere, and leaves every phase to the others, adds nothing.
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!vT = !kvcache.tensor<head:Hkv, token:?, channel.v:D, act>
!kT = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!h = !kvcache.tensor<head:Hkv, f32>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, x = f32}>
!dense = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
// CHECK-LABEL: kvcache.method @"masks+keeps+plain.composed"
// CHECK-NOT:     kvcache.state @unused
// CHECK:         kvcache.phase compress
// CHECK-NEXT:      kvcache.gather
// CHECK:         kvcache.phase compress
// CHECK:           kvcache.set_column
// CHECK-NOT:     kvcache.phase compress
kvcache.method @masks {
  kvcache.state @kv : !kv
  kvcache.phase compress (%kv = @kv : !kv) on(prompt_end) {
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %half = kvcache.map "v / 2" (v = %v) : (!vT) -> !vT
    %d = kvcache.set_column %kv, v = %half : (!kv, !vT) -> !kv
    kvcache.next @kv = %d : !kv
  }
}
kvcache.method @keeps {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %s = kvcache.column x of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @plain {
  kvcache.state @unused : !dense
}

// Each calibration makes tables of its own.
// CHECK-LABEL: kvcache.method @"one+two.composed"
// CHECK:         kvcache.phase calibrate
// CHECK:           kvcache.next @a =
// CHECK:         kvcache.phase calibrate
// CHECK:           kvcache.next @b =
kvcache.method @one {
  kvcache.artefact @a : !h
  kvcache.phase calibrate (%k = key : !kT) {
    %n = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %m = kvcache.reduce mean %n over [token] : (!s) -> !h
    kvcache.next @a = %m : !h
  }
}
kvcache.method @two {
  kvcache.artefact @b : !h
  kvcache.phase calibrate (%v = value : !vT) {
    %n = kvcache.score.norm %v over [channel.v] : (!vT) -> !s
    %m = kvcache.reduce mean %n over [token] : (!s) -> !h
    kvcache.next @b = %m : !h
  }
}
