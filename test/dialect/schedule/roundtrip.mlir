// RUN: kvasir-opt %s --verify-roundtrip | FileCheck %s
// Every op of an executable, as text and as bytecode.

func.func private @append(index, memref<?xi8>, memref<?xi64>, memref<?xf32>, memref<?xi64>) -> i32
kvcache.outline @sum {
^bb0(%x: f32, %y: f32):
  %z = arith.addf %x, %y : f32
}

// CHECK:       kvcache.outline @sum
// CHECK:       kvcache.executable "cpu" layers 2 query_heads 4 kv_heads 2 head_dim 8 act "f16"
// CHECK-SAME:    attributes {needed_query_rows = -1 : i64, token_budget}
kvcache.executable "cpu" layers 2 query_heads 4 kv_heads 2 head_dim 8 act "f16"
    attributes {needed_query_rows = -1 : i64, token_budget} {
  // CHECK:       kvcache.exec.store @kv heads 2 {
  // CHECK-NEXT:    kvcache.exec.column "k" width 8 as "f16" rope_view
  kvcache.exec.store @kv heads 2 {
    kvcache.exec.column "k" width 8 as "f16" rope_view
    kvcache.exec.column "v" width 8 as "recent<affine<2, tile(channel:8), min_f16, scale_f16, lsb(channel)>, keep(4), block(4)>"
  }
  // CHECK:       kvcache.exec.tensor @mean [2] of f32 artefact
  kvcache.exec.tensor @mean [2] of f32 artefact values [dense<0> : tensor<8xi8>, dense<1> : tensor<8xi8>]
  // CHECK:       kvcache.exec.tensor @prompt_score.need [] of f32 carried
  kvcache.exec.tensor @prompt_score.need [] of f32 carried
  // CHECK:       kvcache.program prompt_model {
  kvcache.program prompt_model {
    // CHECK:       kvcache.slot tensor_extent @prompt_score.need 1
    %heads = kvcache.slot tensor_extent @prompt_score.need 1
  }
  // CHECK:       kvcache.program decode layers [0] {
  kvcache.program decode layers [0] {
    // CHECK-DAG:   %[[ROWS:rows]] = kvcache.slot rows
    // CHECK-DAG:   %[[KEPT:store_rows]] = kvcache.slot store_rows @kv
    // CHECK-DAG:   %[[C3:c3]] = kvcache.slot constant 3
    // CHECK-DAG:   %[[S:s]] = kvcache.slot none
    %rows = kvcache.slot rows
    %kept = kvcache.slot store_rows @kv
    %c3 = kvcache.slot constant 3
    %s = kvcache.slot none
    // CHECK:       %[[KEY:key]] = kvcache.buffer key "key" [%[[ROWS]], 2, 8] of f32
    // CHECK:       %[[DUE:due]] = kvcache.buffer transient "due" [2, 2] of i64 zeroed
    // CHECK:       %[[LENGTHS:lengths]] = kvcache.buffer transient "lengths" [4] of i32 in %[[DUE]]
    // CHECK:       kvcache.buffer tensor "mean" [2] of f32 tensor @mean
    %key = kvcache.buffer key "key" [%rows, 2, 8] of f32
    %due = kvcache.buffer transient "due" [2, 2] of i64 zeroed
    %lengths = kvcache.buffer transient "lengths" [4] of i32 in %due
    %mean = kvcache.buffer tensor "mean" [2] of f32 tensor @mean
    // CHECK:       kvcache.step.reserve @kv [%[[ROWS]]]
    kvcache.step.reserve @kv [%rows]
    // CHECK:       kvcache.step.launch @append grid [2, %[[ROWS]]] (@kv, %[[KEY]], [%[[ROWS]], %[[C3]]]) reads [@kv::@k] moves %[[ROWS]]
    // CHECK-SAME:    ops = ["kvcache.append"]
    kvcache.step.launch @append grid [2, %rows] (@kv, %key, [%rows, %c3]) reads [@kv::@k] moves %rows
        attributes {ops = ["kvcache.append"], status = "fused", phase = "decode", write_bytes_per_row = 32 : i64}
    // CHECK:       kvcache.step.begin_code @kv "v" due %[[DUE]] into %[[S]]
    kvcache.step.begin_code @kv "v" due %due into %s
    // CHECK:       kvcache.step.guard %[[S]] {
    // CHECK-NEXT:    kvcache.step.launch @sum grid [] ([%[[C3]], %[[S]]]) writes_slots
    kvcache.step.guard %s {
      kvcache.step.launch @sum grid [] ([%c3, %s]) writes_slots
          attributes {ops = [], status = "fused", phase = "commit"}
    }
    // CHECK:       kvcache.step.end_code @kv "v" due %[[DUE]]
    kvcache.step.end_code @kv "v" due %due
    // CHECK:       kvcache.step.store_rows @kv by 64 into %[[S]]
    // CHECK:       kvcache.step.fetch %[[LENGTHS]] at 1 into %[[S]]
    kvcache.step.store_rows @kv by 64 into %s
    kvcache.step.fetch %lengths at 1 into %s
    // CHECK:       kvcache.step.truncate @kv [] lengths %[[LENGTHS]]
    // CHECK:       kvcache.step.truncate @kv [%[[S]]]
    kvcache.step.truncate @kv [] lengths %lengths
    kvcache.step.truncate @kv [%s]
    // CHECK:       kvcache.ranked %[[MEAN:.*]] first %[[C3]] last %[[S]] counts %[[MEAN]]
    kvcache.ranked %mean first %c3 last %s counts %mean
  }
  // CHECK:       kvcache.exec.code "x86-64-v3" features ["avx2"] bytes 9 object dense<[1, 2]> : tensor<2xi8>
  // CHECK:       kvcache.exec.recorded "out" seed "1" tolerance {{.*}} expected dense<5> : tensor<4xi8>
  // CHECK:       kvcache.exec.origin "m" hash "0f" by "someone" parameters {budget = "64"} composed "text"
  kvcache.exec.code "x86-64-v3" features ["avx2"] bytes 9 object dense<[1, 2]> : tensor<2xi8>
  kvcache.exec.recorded "out" seed "1" tolerance 0.5 expected dense<5> : tensor<4xi8>
  kvcache.exec.origin "m" hash "0f" by "someone" parameters {budget = "64"} composed "text"
}
