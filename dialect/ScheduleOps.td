// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the `planned` and `scheduled` stages add: an executable as IR. The ops mirror the messages of
// runtime/abi/executable.proto one by one, so that a .kvx and its IR say the same.

#ifndef KVCACHE_SCHEDULE_OPS
#define KVCACHE_SCHEDULE_OPS

include "dialect/KVCacheTypes.td"
include "mlir/IR/OpAsmInterface.td"

// A slot is a 64-bit cell, a buffer the bytes of a dense row-major tensor. What they hold stands at the op that declares
// them, so their types need no printing.
def KVCache_Slot : Type<CPred<"::mlir::kvcache::isSlotType($_self)">, "slot (memref<i64>)">,
    BuildableType<"::mlir::MemRefType::get({}, $_builder.getI64Type())">;
def KVCache_Buffer : Type<CPred<"::mlir::kvcache::isBufferType($_self)">, "buffer (memref<?xi8>)">,
    BuildableType<"::mlir::MemRefType::get({::mlir::ShapedType::kDynamic}, $_builder.getIntegerType(8))">;

class KVCache_Step<string mnemonic, list<Trait> traits = []>
    : KVCache_Op<mnemonic, !listconcat([ParentOneOf<["ProgramOp", "GuardOp"]>], traits)>;

def KVCache_ExecutableOp : KVCache_Op<"executable", [IsolatedFromAbove, NoTerminator, SingleBlock, SymbolTable]> {
  let summary = "a compiled method for one geometry";
  let description = [{
    Holds stores, persistent tensors, programs, and where they are known: code, origin, recorded results. Kernels are
    symbols of the module around it: outlines at `planned`, functions at `scheduled`, code objects in a .kvx.

    Constraints:
    - (C1) the extents of the geometry are at least 1, and the query heads are a multiple of the KV heads
    - (C2) `act` is an element type
    - (C3) there are RoPE frequencies for half the head dimension, or none
    - (C4) tokens are drafted exactly where there is a program `draft_end`
  }];
  let arguments = (ins StrAttr:$target, I64Attr:$layers, I64Attr:$query_heads, I64Attr:$kv_heads, I64Attr:$head_dim,
                       StrAttr:$act, OptionalAttr<I64Attr>:$sliding_window,
                       OptionalAttr<DenseF32ArrayAttr>:$rope_inv_freq, UnitAttr:$token_budget,
                       OptionalAttr<StrAttr>:$budget_refusal, OptionalAttr<I64Attr>:$needed_query_rows,
                       UnitAttr:$pre_rope_keys, OptionalAttr<I64Attr>:$draft_steps);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $target `layers` $layers `query_heads` $query_heads `kv_heads` $kv_heads `head_dim` $head_dim `act` $act
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def KVCache_ExecOriginOp : KVCache_Op<"exec.origin", [HasParent<"ExecutableOp">]> {
  let summary = "where an executable comes from: producer, method, parameters, the IR it was made of";
  let arguments = (ins StrAttr:$producer, StrAttr:$method, StrAttr:$method_hash, DictionaryAttr:$parameters,
                       StrAttr:$composed);
  let assemblyFormat = "$method `hash` $method_hash `by` $producer `parameters` $parameters `composed` $composed attr-dict";
}

def KVCache_ExecStoreOp : KVCache_Op<"exec.store", [HasParent<"ExecutableOp">, NoTerminator, SingleBlock, Symbol]> {
  let summary = "a cache state: a table of columns, with rows for each row head";
  let description = [{
    Constraints:
    - (C1) there is at least one row head and one column
    - (C2) names of columns differ
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$heads);
  let regions = (region SizedRegion<1>:$columns);
  let assemblyFormat = "$sym_name `heads` $heads $columns attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The number of the column called `name`, -1 when there is none.
    int64_t getColumnIndex(::llvm::StringRef name);
  }];
}

def KVCache_ExecColumnOp : KVCache_Op<"exec.column", [HasParent<"ExecStoreOp">]> {
  let summary = "a column of a store: its width and its storage term";
  let description = [{
    `rope_view`: keys held before RoPE, which a reader sees rotated to their cache index.

    Constraints:
    - (C1) the width is at least 1
    - (C2) the storage term is one
  }];
  let arguments = (ins StrAttr:$name, I64Attr:$width, StrAttr:$storage, UnitAttr:$rope_view);
  let assemblyFormat = "$name `width` $width `as` $storage (`rope_view` $rope_view^)? attr-dict";
  let hasVerifier = 1;
}

def KVCache_ExecTensorOp : KVCache_Op<"exec.tensor", [HasParent<"ExecutableOp">, Symbol]> {
  let summary = "a persistent tensor, one instance for each layer";
  let description = [{
    `artefact`: written by calibration and shared by all sequences; `values` holds what calibration found, bytes for each
    layer. `carried`: made by one program of the end of a prompt, or of calibration, for a later one, and gone behind it; its
    extents are those of the buffer that makes it.

    Constraints:
    - (C1) the element type is known and every extent at least 1
    - (C2) there are values for every layer or for none, each as long as the tensor
    - (C3) what is carried has no extents and no values, and is no artefact
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, DenseI64ArrayAttr:$extents, StrAttr:$element, UnitAttr:$artefact,
                       UnitAttr:$carried, OptionalAttr<ArrayAttr>:$values);
  let assemblyFormat = [{
    $sym_name $extents `of` custom<Word>($element) (`artefact` $artefact^)? (`carried` $carried^)? (`values` $values^)?
    attr-dict
  }];
  let hasVerifier = 1;
}

def KVCache_ExecCodeOp : KVCache_Op<"exec.code", [HasParent<"ExecutableOp">]> {
  let summary = "machine code for one instruction set: a compressed shared object";
  let arguments = (ins StrAttr:$isa, StrArrayAttr:$features, I64Attr:$object_bytes, ElementsAttr:$object);
  let assemblyFormat = "$isa `features` $features `bytes` $object_bytes `object` $object attr-dict";
}

def KVCache_ExecRecordedOp : KVCache_Op<"exec.recorded", [HasParent<"ExecutableOp">]> {
  let summary = "a recorded result of the reference target, for verification";
  let arguments = (ins StrAttr:$name, StrAttr:$seed_text, F64Attr:$tolerance, ElementsAttr:$expected);
  let assemblyFormat = "$name `seed` $seed_text `tolerance` $tolerance `expected` $expected attr-dict";
}

def KVCache_OutlineOp : KVCache_Op<"outline", [IsolatedFromAbove, NoTerminator, SingleBlock, Symbol]> {
  let summary = "a kernel before there is code for it: the fused ops it computes";
  let description = [{
    The block arguments stand for what the ops take from outside. A `planned` module has one for each kernel; at
    `scheduled` a function has taken its symbol.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name $body attr-dict";
}

def KVCache_ProgramOp : KVCache_Op<"program", [HasParent<"ExecutableOp">, IsolatedFromAbove, NoTerminator, SingleBlock]> {
  let summary = "the steps an executor runs for one layer at one point of decoding";
  let description = [{
    Slots and buffers are numbered in the order they are declared in. `layers` empty means every layer. `chunk_rows`: rows come
    that many at a time, the first of a call fewer where they are no multiple. In programs of
    the kinds `attend`, `read`, `prompt_score`, `prompt_model` and `calibrate_model` nothing may change a store. `prompt_model` and
    `calibrate_model` run once for all layers. `source` and `sizes`: the sequences that a program calibrate sees one at a time.

    Constraints:
    - (C1) the kind is prefill, ingest, decode, prompt_score, prompt_model, prompt_end, step_end, attend, read, calibrate or calibrate_model
    - (C2) slots and buffers are declared at the top, outside guards
    - (C3) a program that only reads changes no store
    - (C4) source and sizes stand together, in a program calibrate
  }];
  let arguments = (ins StrAttr:$kind, OptionalAttr<DenseI64ArrayAttr>:$layers, OptionalAttr<I64Attr>:$nan_check_op,
                       OptionalAttr<I64Attr>:$chunk_rows, OptionalAttr<StrAttr>:$source,
                       OptionalAttr<DenseI64ArrayAttr>:$sizes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "custom<Word>($kind) (`layers` $layers^)? $body attr-dict";
  let hasVerifier = 1;
}

def KVCache_SlotOp : KVCache_Op<"slot", [HasParent<"ProgramOp">, DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "a 64-bit cell of a program, and what it holds at the start";
  let description = [{
    `none` waits for a step to write it; `constant` holds `value`; `window_rows` counts the last queries held, at most
    `value` where it has one; `store_rows` the largest row count over heads of a
    store; `tensor_extent` extent number `value` of what is carried for one layer; the other roles are numbers of the event
    (docs/architecture.md).

    Constraints:
    - (C1) the role is known
    - (C2) `store_rows` names a store and `tensor_extent` a carried tensor, which exist; `constant` and `tensor_extent`
      have a value, `window_rows` may have one
  }];
  let arguments = (ins StrAttr:$role, OptionalAttr<FlatSymbolRefAttr>:$source, OptionalAttr<I64Attr>:$value);
  let results = (outs KVCache_Slot:$slot);
  let assemblyFormat = "custom<Word>($role) ($source^)? ($value^)? attr-dict";
  let hasVerifier = 1;
}

def KVCache_BufferOp : KVCache_Op<"buffer", [HasParent<"ProgramOp">, AttrSizedOperandSegments,
                                             DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>]> {
  let summary = "a dense row-major tensor of a program";
  let description = [{
    The role says who provides it; a `transient` buffer is memory from its first use on, and so are `passed` and
    `passed_rows`, which say after a prefill what the next layer sees. `in` puts a transient buffer
    into the memory of another one, which is at least as large whenever both have extents (kvcache-share-buffers).

    Constraints:
    - (C1) role and element type are known, and extents are slots or at least 0
    - (C2) a buffer of role `tensor`, and no other, names a persistent tensor, which exists
    - (C3) `in` joins two transient buffers, and the other one is not in a third
  }];
  let arguments = (ins StrAttr:$role, StrAttr:$name, Variadic<KVCache_Slot>:$extents,
                       DenseI64ArrayAttr:$static_extents, StrAttr:$element, OptionalAttr<FlatSymbolRefAttr>:$tensor,
                       UnitAttr:$zeroed, Optional<KVCache_Buffer>:$memory);
  let results = (outs KVCache_Buffer:$buffer);
  let assemblyFormat = [{
    custom<Word>($role) $name custom<DynamicIndexList>($extents, $static_extents) `of` custom<Word>($element)
    (`tensor` $tensor^)? (`zeroed` $zeroed^)? (`in` $memory^)? attr-dict
  }];
  let hasVerifier = 1;
}

def KVCache_RankedOp : KVCache_Op<"ranked", [HasParent<"ProgramOp">, AttrSizedOperandSegments]> {
  let summary = "what a program's selection ranked, for reports";
  let arguments = (ins KVCache_Buffer:$scores, Optional<KVCache_Slot>:$first, Optional<KVCache_Slot>:$last,
                       Optional<KVCache_Buffer>:$counts);
  let assemblyFormat = "$scores (`first` $first^)? (`last` $last^)? (`counts` $counts^)? attr-dict";
}

def KVCache_LaunchOp : KVCache_Step<"step.launch", [AttrSizedOperandSegments]> {
  let summary = "runs a kernel over a grid of tasks";
  let description = [{
    `args`, in the order the kernel takes them: a buffer (one pointer), a store (two pointers), a list of slots (one
    pointer to their values). `writes_slots`: one task, whose lists of slots are written back. `reads` names the columns
    of which one launch reads every row, `moves` the rows per row head that the bytes per row count for (without it those
    of the first store). The attributes say what the
    kernel covers (`ops`), where it was written (`phase`), and which of its ops refuses NaN (`check_op`).

    Constraints:
    - (C1) the kernel is an outline or a function of the module around the executable, unless the executable has code
    - (C2) a function of kernels takes the task number and one argument for each pointer
    - (C3) stores and columns it names exist
    - (C4) args describe all buffers and words
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<KVCache_Slot>:$grid, DenseI64ArrayAttr:$static_grid,
                       Variadic<KVCache_Buffer>:$buffers, Variadic<KVCache_Slot>:$words, ArrayAttr:$args,
                       UnitAttr:$writes_slots, OptionalAttr<ArrayAttr>:$reads,
                       Optional<KVCache_Slot>:$moves,
                       StrArrayAttr:$ops, StrAttr:$status, StrAttr:$phase, OptionalAttr<StrAttr>:$reason,
                       OptionalAttr<StrAttr>:$check_op, OptionalAttr<StrAttr>:$label,
                       OptionalAttr<I64Attr>:$read_bytes_per_row, OptionalAttr<I64Attr>:$write_bytes_per_row);
  let assemblyFormat = [{
    $kernel `grid` custom<DynamicIndexList>($grid, $static_grid) custom<LaunchArgs>($buffers, $words, $args)
    (`writes_slots` $writes_slots^)? (`reads` $reads^)? (`moves` $moves^)?
    attr-dict-with-keyword
  }];
  let hasVerifier = 1;
}

def KVCache_ReserveOp : KVCache_Step<"step.reserve"> {
  let summary = "grows the exact segments of a store by a number of rows on every head";
  let description = "(C1) the store exists; (C2) there is one number of rows, at least 0.";
  let arguments = (ins FlatSymbolRefAttr:$store, Variadic<KVCache_Slot>:$rows, DenseI64ArrayAttr:$static_rows);
  let assemblyFormat = "$store custom<DynamicIndexList>($rows, $static_rows) attr-dict";
  let hasVerifier = 1;
}

def KVCache_TruncateOp : KVCache_Step<"step.truncate", [AttrSizedOperandSegments]> {
  let summary = "cuts the heads of a store, all to one number of rows or each to its own";
  let description = [{
    (C1) the store exists; (C2) there is one number of rows or a buffer of lengths (i32, one for each head).
  }];
  let arguments = (ins FlatSymbolRefAttr:$store, Variadic<KVCache_Slot>:$rows, DenseI64ArrayAttr:$static_rows,
                       Optional<KVCache_Buffer>:$lengths);
  let assemblyFormat = "$store custom<DynamicIndexList>($rows, $static_rows) (`lengths` $lengths^)? attr-dict";
  let hasVerifier = 1;
}

def KVCache_BeginCodeOp : KVCache_Step<"step.begin_code"> {
  let summary = "finds the rows of a column that are due to be coded and reserves their pages";
  let description = [{
    Writes {first, end} of each head to `due` (i64 [heads, 2]) and the largest count to the slot.
    (C1) store and column exist; (C2) `due` has elements i64.
  }];
  let arguments = (ins FlatSymbolRefAttr:$store, StrAttr:$column, KVCache_Buffer:$due, KVCache_Slot:$rows);
  let assemblyFormat = "$store $column `due` $due `into` $rows attr-dict";
  let hasVerifier = 1;
}

def KVCache_EndCodeOp : KVCache_Step<"step.end_code"> {
  let summary = "the due rows of a column are coded: their exact pages go";
  let description = "(C1) store and column exist.";
  let arguments = (ins FlatSymbolRefAttr:$store, StrAttr:$column, KVCache_Buffer:$due);
  let assemblyFormat = "$store $column `due` $due attr-dict";
  let hasVerifier = 1;
}

def KVCache_GuardOp : KVCache_Step<"step.guard", [NoTerminator, SingleBlock]> {
  let summary = "steps that run only when a slot is not zero";
  let arguments = (ins KVCache_Slot:$condition);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$condition $body attr-dict";
}

def KVCache_StoreRowsOp : KVCache_Step<"step.store_rows"> {
  let summary = "sets a slot to the largest row count of a store now, divided and rounded up";
  let description = "(C1) the store exists; (C2) it is divided by at least 1.";
  let arguments = (ins FlatSymbolRefAttr:$store, I64Attr:$divide_up, KVCache_Slot:$slot);
  let assemblyFormat = "$store `by` $divide_up `into` $slot attr-dict";
  let hasVerifier = 1;
}

def KVCache_FetchOp : KVCache_Step<"step.fetch"> {
  let summary = "sets a slot to one element of a buffer";
  let description = "(C1) the buffer has elements i32.";
  let arguments = (ins KVCache_Buffer:$buffer, I64Attr:$index, KVCache_Slot:$slot);
  let assemblyFormat = "$buffer `at` $index `into` $slot attr-dict";
  let hasVerifier = 1;
}

#endif
