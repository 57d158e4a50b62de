// RUN: kvasir-opt %s --kvcache-form-kernels | FileCheck %s
!kv = !kvcache.cache<append, head:2, token:?, {k [channel.post:64] = f16, v [channel.v:64] = f16, pos = i32, acc = f32}>
!kT = !kvcache.tensor<head:2, token:?, channel.post:64, f16>
!s = !kvcache.tensor<head:2, token:?, f32>
!h = !kvcache.tensor<head:2, f32>
!keep = !kvcache.index<head:2, token.keep:? of token>

// A reduction whose consumer runs over the same points is computed where it is used: one kernel, no score of squares in
// memory. The selection reads its input many times, so that has memory.
// CHECK-LABEL: kvcache.method @same_points
// CHECK:         %[[S:.*]] = kvcache.kernel
// CHECK:           kvcache.column k
// CHECK:           kvcache.reduce sum
// CHECK:           kvcache.map
// CHECK:           kvcache.kernel.yield
// CHECK:         kvcache.kernel ({{.*}} = %[[S]]
// CHECK:           kvcache.topk
kvcache.method @same_points {
  kvcache.state @kv : !kv
  kvcache.phase prompt_end (%kv = @kv : !kv, %B = budget : index) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %sum = kvcache.reduce sum %k over [channel.post] : (!kT) -> !s
    %s = kvcache.map "0 - x" (x = %sum) : (!s) -> !s
    %i = kvcache.topk %s count %B along token : (!s, index) -> !keep
    %c = kvcache.gather %kv at %i : (!kv, !keep) -> !kv
    kvcache.next @kv = %c : !kv
  }
}

// The mean would be summed again for every token: it gets memory.
// CHECK-LABEL: kvcache.method @negative_other_points
// CHECK:         %[[M:.*]] = kvcache.kernel
// CHECK:           kvcache.reduce mean
// CHECK-NOT:       kvcache.map
// CHECK:           kvcache.kernel.yield
// CHECK:         kvcache.kernel ({{.*}}%[[M]]
// CHECK:           kvcache.map
kvcache.method @negative_other_points {
  kvcache.state @kv : !kv
  kvcache.phase prompt_end (%kv = @kv : !kv) {
    %a = kvcache.column acc of %kv : (!kv) -> !s
    %m = kvcache.reduce mean %a over [token] : (!s) -> !h
    %d = kvcache.map "a - m" (a = %a, m = %m) : (!s, !h) -> !s
    %c = kvcache.set_column %kv, acc = %d : (!kv, !s) -> !kv
    kvcache.next @kv = %c : !kv
  }
}
