// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The structure of a method: parameters, states, artefacts, phases and composition.

#ifndef KVCACHE_METHOD_OPS
#define KVCACHE_METHOD_OPS

include "dialect/KVCacheTypes.td"
include "mlir/IR/RegionKindInterface.td"

def KVCache_MethodOp : KVCache_Op<"method", [IsolatedFromAbove, NoTerminator, SingleBlock, Symbol, SymbolTable]> {
  let summary = "one compression method: a symbol table of parameters, states and phases";
  let description = [{
    `info` holds texts: `paper`, `family`, `title`. What the method leaves out has a default (docs/op-table.md).
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<DictionaryAttr>:$info);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name (`info` $info^)? $body attr-dict";
  let extraClassDeclaration = [{
    /// A text of the info dictionary (paper, family, title); empty when absent.
    ::llvm::StringRef getInfoText(::llvm::StringRef key);
  }];
}

def KVCache_ParamOp : KVCache_Op<"param", [HasParent<"MethodOp">, Symbol]> {
  let summary = "a parameter: default value, and the values it may take";
  let description = [{
    `= 64 : index in [1, 4096]` (closed range), `in {2, 4}` (set). Values: integers and floats with
    their type, booleans, strings, integer lists, a text with a type (an expression over geometry,
    `"D / 2" : i64`), a method name (`"other" : method`: slots left out here come from there).
    (C1) the value is a number, a boolean, a text or a list of integers; (C2) the default is a legal value.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, AnyAttr:$value, OptionalAttr<TypeAttr>:$type,
                       UnitAttr:$is_method, OptionalAttr<ArrayAttr>:$range, OptionalAttr<ArrayAttr>:$choices);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// A text to be evaluated over geometry, e.g. "D / 2".
    bool isExpression();
    bool isList();
    /// Says in `reason` why `value` (same kind as the default) is not allowed; true when it is.
    bool allows(::mlir::Attribute value, std::string &reason);
  }];
}

def KVCache_StateOp : KVCache_Op<"state", [HasParent<"MethodOp">, Symbol]> {
  let summary = "a value that survives phases";
  let description = [{
    A cache keeps its declared type for the whole method. `fixed` names the artefacts (basis, mean) of
    a factor column, `encode` the encoders of coded columns; `when` makes the state exist only for one value of a parameter.
    (C1) the type is a cache, a tensor or a scalar; (C2) factor columns, and only they, name their artefacts
    in `fixed`; (C3) the parameter of `when` exists and has a value of that kind; (C4) `encode` names an encoder
    of the method for an affine column, which takes its rows and yields its storage.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$type, OptionalAttr<DictionaryAttr>:$fixed,
                       OptionalAttr<DictionaryAttr>:$encode, OptionalAttr<KVCache_ConditionAttr>:$condition);
  let assemblyFormat = [{
    $sym_name `:` $type (`fixed` $fixed^)? (`encode` $encode^)? (`when` `` custom<Condition>($condition)^)? attr-dict
  }];
  let hasVerifier = 1;
}

def KVCache_ArtefactOp : KVCache_Op<"artefact", [HasParent<"MethodOp">, Symbol]> {
  let summary = "a result of the calibrate phase or of a file, kept with the compiled method";
  let description = [{
    One instance for each layer; with an axis `layer:L` in front it is about the whole model: a layer reads all of it, or,
    where its argument has no such axis, its own part. `from file`: trained or searched outside. With `else` the method
    runs without calibration and without a file: until one of them gives the artefact, all its elements are that number.
    (C1) the type is a tensor; (C2) what is from a file is yielded by no phase.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$type, UnitAttr:$from_file, OptionalAttr<F64Attr>:$otherwise);
  let assemblyFormat = [{
    $sym_name `:` $type (`from` `file` $from_file^)? (`else` $otherwise^)? attr-dict
  }];
  let hasVerifier = 1;
}

def KVCache_EncoderOp : KVCache_Op<"encoder", [HasParent<"MethodOp">, Symbol, IsolatedFromAbove, SingleBlock]> {
  let summary = "what happens to rows of a column before they are coded";
  let description = [{
    Runs at the commit, for the blocks of rows that are due. `rows` are those rows: the row axes of the cache but the last,
    `page` for the blocks, `token` for the rows of one (the block of the column's `recent`, else 1), feature axes. What is
    yielded is rounded to the model's element type and coded; rows read as what was yielded. (C1) one argument is bound to `rows`, and
    others to parameters or artefacts of their type; (C2) the region yields one quantize.encode, of the axes of `rows`.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, KVCache_BindingArrayAttr:$bindings);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Block &getBlock() { return getBody().front(); }
    /// The argument that is bound to `rows`.
    ::mlir::BlockArgument getRows();
    /// The rows that are coded: what the yielded quantize.encode takes.
    ::mlir::Value getCodedRows();
  }];
}

def KVCache_PhaseOp : KVCache_Op<"phase", [HasParent<"MethodOp">, IsolatedFromAbove, SingleBlock]> {
  let summary = "what a method does at one point of decoding";
  let description = [{
    Kinds fill slots; several kinds may share one region. Each block argument is bound to a role, a
    state, a parameter or an artefact. `layers(except(@list))` skips the layers of a list parameter;
    `on` names triggers, `when` a parameter value without which the phase does not exist. With `scope(model)` the
    phase runs once for all layers, after the layer-scoped ones before it: what exists for each layer (score, budget,
    keep, artefacts) has the axis `layer:L` in front there, and phases after it see their layer's part.
    `probe`: the prompt is fed a second time, behind itself, in chunks; like prefill it appends rows, attends and may change
    columns, but the rows it appended are gone before the prompt ends. There `length` and `prompt_length` are those of the
    prompt. `draft`: at the end of a prompt, makes a copy of the caches that is thrown away: every cache, with the rows of `keep`
    where the phase yields that, else as the phase yields them. `draft_queries(n)` are queries, at most n rows, of the tokens that
    are decoded on that copy; without `n` tokens to draft there is no copy.
    `calibrate`: without a trigger it sees the rows of all texts at once, in one layer. `on(text(n, t))`, n texts of t tokens;
    `on(repeat(n, m))`, a beginning and n random tokens m times over; `on(needle(n, t))`, n prompts of t tokens that ask for
    what stands in them, and the model's answer: there it sees one such sequence at a time, caches as they are before a first
    row, and the last queries of that sequence. What it yields by name is the mean over the sequences. With `scope(model)` it
    runs once behind those, takes what they yield with the axis `layer:L` in front, and yields artefacts about the whole model.
    Tables of a needle are `request(needle)`, 1 for tokens that hold what is asked for, and `request(produced)`, for each row
    the token that the model put behind it, -1 within the prompt.
    (C1) kinds are distinct and known; (C2) every block argument has a binding with a known role, and only
    `last_queries`, `draft_queries` and `request` take an argument; (C3) a bound symbol is a state, parameter or artefact of the method
    and has the argument's type; (C4) triggers are known, and `longer` watches a cache state; (C5)
    `except` names a list parameter; (C6) the parameter of `when` exists and has a value of that kind; (C7) only
    calibrate, allocate and select have model scope, and they take no rows of an event and no cache there; (C8) a probe has no
    triggers, takes no rows of a request, and yields `out` and states alone; (C9) a draft has no triggers, takes no rows of an
    event, and yields `keep` or caches; (C10) only phases score, allocate and select take draft_queries, of a method that has a
    draft, or none of them (n = 0); (C11) text, repeat and needle are the trigger of phases calibrate alone, which yield named
    tensors of f32 then.
  }];
  let arguments = (ins StrArrayAttr:$kinds, KVCache_BindingArrayAttr:$bindings, OptionalAttr<FlatSymbolRefAttr>:$except,
                       OptionalAttr<KVCache_TriggerArrayAttr>:$triggers, OptionalAttr<KVCache_ConditionAttr>:$condition,
                       UnitAttr:$model_scope);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    bool hasKind(::llvm::StringRef kind);
    BindingAttr getBinding(unsigned argument);
    ::mlir::Block &getBlock() { return getBody().front(); }
    /// n of the trigger chunks(n), 0 without one or while n is a symbol.
    int64_t getChunkRows();
    /// The block argument bound to `role` (keyword) or to the symbol `@name`; null when there is none.
    ::mlir::BlockArgument getArgumentFor(::llvm::StringRef roleOrSymbol);
    NextOp getNext();
  }];
}

def KVCache_NextOp : KVCache_Op<"next", [HasParent<"PhaseOp">, Terminator, Pure]> {
  let summary = "ends a phase: named results and new values of states";
  let description = [{
    Names: `out`, `score`, `budget`, `keep`, `rows`, and `@symbol` of a state or an artefact. New values of
    states are committed: storage invariants (exact rows, blocks) are restored at the end of the event.
    `rows` of a phase prefill: the rows of the event that the next layer sees, the newest among them. Such a prompt passes
    through the layers as one chunk; of the roles, `length` and `step` count the rows of the layer, and `prompt_length`
    those of the first one.
    (C1) names are known and distinct; (C2) symbols are states or artefacts and the values have their type; (C3) `rows`
    is yielded by a phase that is prefill alone and has no chunks(n), as a selection along its one axis, of kind query; (C4)
    with it no phase of the method takes a request table along rows.
  }];
  let arguments = (ins ArrayAttr:$names, Variadic<KVCache_Any>:$values);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The value called `name` (`score`) or `@name`; null when there is none.
    ::mlir::Value getValueFor(::llvm::StringRef nameOrSymbol);
  }];
}

def KVCache_ComposeOp : KVCache_Op<"compose", [Symbol]> {
  let summary = "a method whose slots come from several methods";
  let description = [{
    Each slot is taken from the method that defines it, in order. (C1) two or more distinct methods.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefArrayAttr:$methods);
  let assemblyFormat = "$sym_name `=` $methods attr-dict";
  let hasVerifier = 1;
}

def KVCache_YieldOp : KVCache_Op<"yield", [Terminator, Pure, ParentOneOf<["MapOp", "SelectWhereOp", "ScoreReduceOp", "AttendOp", "EncoderOp"]>]> {
  let summary = "ends a scalar region";
  let description = [{
    The values of one element, or the coded rows of an encoder; their types are checked by the op that holds the region.
  }];
  let arguments = (ins Variadic<KVCache_Element>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

#endif
