// RUN: kvasir-opt %s -split-input-file -verify-diagnostics
// What an executable may not say. Each module is named after the constraint it breaks.

module @executable_c1 {
  // expected-error @below {{expects extents of at least 1, and query heads that are a multiple of the KV heads}}
kvcache.executable "cpu" layers 1 query_heads 3 kv_heads 2 head_dim 8 act "f16" {

}
}

// -----

module @executable_c2 {
  // expected-error @below {{expects an element type as act, got 'f17'}}
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f17" {

}
}

// -----

module @executable_c3 {
  // expected-error @below {{expects 4 RoPE frequencies, got 1}}
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" attributes {rope_inv_freq = array<f32: 1.0>} {

}
}

// -----

module @executable_c4 {
  // expected-error @below {{expects draft_steps with a program draft_end alone}}
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" attributes {draft_steps = 8 : i64} {

}
}

// -----

module @exec_store_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{expects a row head and a column at least}}
  kvcache.exec.store @kv heads 1 {
  }
}
}

// -----

module @exec_store_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{has two columns 'k'}}
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
    kvcache.exec.column "k" width 8 as "f16"
  }
}
}

// -----

module @exec_column_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
  // expected-error @below {{expects a width of at least 1, got 0}}
    kvcache.exec.column "k" width 0 as "f16"
  }
}
}

// -----

module @exec_column_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
  // expected-error @below {{expects a storage term, got 'loose<f16>'}}
    kvcache.exec.column "k" width 8 as "loose<f16>"
  }
}
}

// -----

module @exec_tensor_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{expects an element type and extents of at least 1}}
  kvcache.exec.tensor @t [2, 0] of f32
}
}

// -----

module @exec_tensor_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{expects 8 bytes as i8 for each of 1 layers}}
  kvcache.exec.tensor @t [2] of f32 artefact values [dense<0> : tensor<4xi8>]
}
}

// -----

module @exec_tensor_c3 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{is carried, and expects no extents and no values}}
  kvcache.exec.tensor @t [2] of f32 carried
}
}

// -----

module @program_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{has no known kind: 'encode'}}
  kvcache.program encode {
  }
}
}

// -----

module @program_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
    %s = kvcache.slot rows
    kvcache.step.guard %s {
  // expected-error @below {{expects to stand outside guards}}
      %t = "kvcache.slot"() {role = "rows"} : () -> memref<i64>
    }
  }
}
}

// -----

module @program_c3 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program read {
  // expected-error @below {{changes a store in a program that only reads}}
    kvcache.step.reserve @kv [1]
  }
}
}

// -----

module @slot_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{has no known role: 'colour'}}
    %s = kvcache.slot colour
  }
}
}

// -----

module @slot_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
  // expected-error-re @below {{expects a {{(store|source) with the roles?}} store_rows}}
    %s = kvcache.slot rows @kv
  }
}
}

// -----

module @slot_c2_extent {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.tensor @t [2] of f32 artefact
  kvcache.program prompt_end {
  // expected-error @below {{names no extent of a carried tensor: '@t', 0}}
    %s = kvcache.slot tensor_extent @t 0
  }
}
}

// -----

module @slot_c2_unknown {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{names no store '@kv'}}
    %s = kvcache.slot store_rows @kv
  }
}
}

// -----

module @buffer_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{expects a known role, a known element type and extents of at least 0}}
    %b = kvcache.buffer transient "b" [2] of f17
  }
}
}

// -----

module @buffer_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{expects a persistent tensor that exists with the role tensor alone}}
    %b = kvcache.buffer tensor "b" [2] of f32 tensor @none
  }
}
}

// -----

module @buffer_c3 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
    %a = kvcache.buffer transient "a" [2] of f32
    %b = kvcache.buffer transient "b" [2] of f32 in %a
  // expected-error @below {{expects to be in a transient buffer with memory of its own}}
    %c = kvcache.buffer transient "c" [2] of f32 in %b
  }
}
}

// -----

module @step_launch_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{names no kernel '@f' of the module or of code}}
    kvcache.step.launch @f grid [] () attributes {ops = [], status = "fused", phase = "decode"}
  }
}
}

// -----

module @step_launch_c2 {
  func.func private @f(index, memref<?xf32>, memref<?xf32>) -> i32
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [2] of f32
  // expected-error @below {{passes 1 pointers to a kernel of 3 arguments}}
    kvcache.step.launch @f grid [] (%b) attributes {ops = [], status = "fused", phase = "decode"}
  }
}
}

// -----

module @step_launch_c3 {
  func.func private @f(index, memref<?xi8>, memref<?xi64>) -> i32
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
  // expected-error @below {{names no column 'w' of store '@kv'}}
    kvcache.step.launch @f grid [] (@kv) reads [@kv::@w] attributes {ops = [], status = "fused", phase = "decode"}
  }
}
}

// -----

module @step_launch_c3_store {
  func.func private @f(index, memref<?xi8>, memref<?xi64>) -> i32
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{names no store '@kv'}}
    kvcache.step.launch @f grid [] (@kv) attributes {ops = [], status = "fused", phase = "decode"}
  }
}
}

// -----

module @step_launch_c4 {
  func.func private @f(index) -> i32
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [2] of f32
  // expected-error @below {{describes 0 buffers and 1 words as args, got 1 and 0}}
    "kvcache.step.launch"(%b) {kernel = @f, args = [1], static_grid = array<i64>, ops = [], status = "fused", phase = "", operandSegmentSizes = array<i32: 0, 1, 0, 0>} : (memref<?xi8>) -> ()
  }
}
}

// -----

module @step_reserve_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{names no store '@kv'}}
    kvcache.step.reserve @kv [1]
  }
}
}

// -----

module @step_reserve_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
  // expected-error @below {{expects one number of rows, at least 0}}
    kvcache.step.reserve @kv [1, 2]
  }
}
}

// -----

module @step_truncate_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
  // expected-error @below {{names no store '@kv'}}
    kvcache.step.truncate @kv [1]
  }
}
}

// -----

module @step_truncate_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1] of f32
  // expected-error @below {{expects a number of rows or lengths of type i32, not both}}
    kvcache.step.truncate @kv [] lengths %b
  }
}
}

// -----

module @step_begin_code_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1, 2] of i64
    %s = kvcache.slot none
  // expected-error @below {{names no column 'w' of store '@kv'}}
    kvcache.step.begin_code @kv "w" due %b into %s
  }
}
}

// -----

module @step_begin_code_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1, 2] of i32
    %s = kvcache.slot none
  // expected-error @below {{expects due rows of type i64}}
    kvcache.step.begin_code @kv "k" due %b into %s
  }
}
}

// -----

module @step_end_code_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1, 2] of i64
    %s = kvcache.slot none
  // expected-error @below {{names no column 'w' of store '@kv'}}
    kvcache.step.end_code @kv "w" due %b
  }
}
}

// -----

module @step_store_rows_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1, 2] of i64
    %s = kvcache.slot none
  // expected-error @below {{names no store '@kv'}}
    kvcache.step.store_rows @kv by 1 into %s
  }
}
}

// -----

module @step_store_rows_c2 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.exec.store @kv heads 1 {
    kvcache.exec.column "k" width 8 as "f16"
  }
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1, 2] of i64
    %s = kvcache.slot none
  // expected-error @below {{expects a divisor of at least 1, got 0}}
    kvcache.step.store_rows @kv by 0 into %s
  }
}
}

// -----

module @step_fetch_c1 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  kvcache.program decode {
    %b = kvcache.buffer transient "b" [1, 2] of i64
    %s = kvcache.slot none
  // expected-error @below {{expects a buffer with elements of type i32}}
    kvcache.step.fetch %b at 0 into %s
  }
}
}

// -----

module @exec_tensor_c3 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{is carried, and expects no extents and no values}}
  kvcache.exec.tensor @t [2] of f32 carried
}
}

// -----

module @program_c4 {
kvcache.executable "cpu" layers 1 query_heads 2 kv_heads 1 head_dim 8 act "f16" {
  // expected-error @below {{expects source and sizes together, of a program calibrate}}
  kvcache.program decode {
  } {source = "text", sizes = array<i64: 2, 64>}
}
}
