// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attributes: the parts of types (symbols, axes, storage, columns) and the clauses of ops (bindings,
// triggers, statistics, conditions). Symbols have an attribute of their own, so that binding them can
// never touch a name that happens to be spelled alike.

#ifndef KVCACHE_ATTRS
#define KVCACHE_ATTRS

include "dialect/KVCacheBase.td"
include "mlir/IR/AttrTypeBase.td"

class KVCache_Attr<string name, string attrMnemonic> : AttrDef<KVCache_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def KVCache_SymAttr : KVCache_Attr<"Sym", "sym"> {
  let summary = "a name of geometry (Hkv, D, ..) or of a parameter that stands for its value";
  let parameters = (ins StringRefParameter<>:$name);
  let assemblyFormat = "`<` $name `>`";
}

def KVCache_AxisAttr : KVCache_Attr<"Axis", "axis"> {
  let summary = "one axis: kind, tag (basis or instance), extent";
  let description = [{
    Printed `kind[.tag]:extent`. The extent is an `i64` integer, a symbol, or a unit attribute for
    `?`: known at run time and possibly different for every point of the other axes.
  }];
  let parameters = (ins StringRefParameter<>:$kind, StringRefParameter<>:$tag, "::mlir::Attribute":$extent);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// kind, or kind.tag: the name under which axes are compared.
    std::string getName() const;
    /// kind[.tag]:extent.
    std::string str() const;
    bool isDynamic() const;
    /// The extent when it is a number.
    std::optional<int64_t> getInteger() const;
    /// The extent when it is a symbol, else empty.
    ::llvm::StringRef getSymbol() const;
    /// The same axis with another tag.
    AxisAttr withTag(::llvm::StringRef tag) const;
  }];
}

def KVCache_StorageAttr : KVCache_Attr<"Storage", "storage"> {
  let summary = "a storage term in its canonical text";
  let parameters = (ins StringRefParameter<>:$text);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// The term as a tree; never null, because only text that parses becomes an attribute.
    std::shared_ptr<const ::kvcache::abi::StorageTerm> getTerm() const;
    static StorageAttr get(::mlir::MLIRContext *context, const ::kvcache::abi::StorageTerm &term);
    /// Plain rows of an element type (or `act`), not codes.
    bool isDense() const;
    /// The symbol `act`: the model's element type, not bound yet.
    bool isAct() const;
  }];
  let builders = [];
}

def KVCache_ColumnAttr : KVCache_Attr<"Column", "column"> {
  let summary = "one column of a cache: name, feature axes, storage";
  let parameters = (ins StringRefParameter<>:$name, ArrayRefParameter<"::mlir::kvcache::AxisAttr">:$axes,
                        "::mlir::kvcache::StorageAttr":$storage);
  let hasCustomAssemblyFormat = 1;
}

def KVCache_BindingAttr : KVCache_Attr<"Binding", "binding"> {
  let summary = "where a block argument of a phase comes from";
  let description = [{
    `role` is a keyword (`query`, `last_queries`, ..) with an optional integer or symbol as argument,
    or `symbol` with the symbol reference of a state, parameter or artefact as argument.
  }];
  let parameters = (ins StringRefParameter<>:$role, OptionalParameter<"::mlir::Attribute">:$argument);
  let assemblyFormat = "`<` $role (`,` $argument^)? `>`";
  let extraClassDeclaration = [{
    /// The referenced state, parameter or artefact; null for a role.
    ::mlir::FlatSymbolRefAttr getSymbol() const;
    /// As written in a phase: `last_queries(window)` or `@kv`.
    std::string str() const;
  }];
}

def KVCache_TriggerAttr : KVCache_Attr<"Trigger", "trigger"> {
  let summary = "when a phase runs: prompt_end, step_end, or longer(@state, budget)";
  let parameters = (ins StringRefParameter<>:$event, OptionalParameter<"::mlir::FlatSymbolRefAttr">:$state,
                        OptionalParameter<"::mlir::Attribute">:$limit);
  let assemblyFormat = "`<` $event (`,` $state^)? (`:` $limit^)? `>`";
}

def KVCache_ConditionAttr : KVCache_Attr<"Condition", "condition"> {
  let summary = "a parameter must have this value";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$param, "::mlir::Attribute":$value);
  let assemblyFormat = "`<` $param `=` $value `>`";
}

def KVCache_StatAttr : KVCache_Attr<"Stat", "stat"> {
  let summary = "a statistic of attention: sum(p, over(axes)[, last(n)]) or lse";
  let description = [{
    `kind` is `sum` (probabilities summed over query-side axes) or `lse` (log of the sum of
    exponentials of a row). With `last(n)` only the last n query rows count.
  }];
  let parameters = (ins StringRefParameter<>:$kind, OptionalParameter<"::mlir::ArrayAttr">:$over,
                        OptionalParameter<"::mlir::Attribute">:$last);
  let assemblyFormat = "`<` $kind (`,` $over^)? (`:` $last^)? `>`";
}

def KVCache_BindingArrayAttr : TypedArrayAttrBase<KVCache_BindingAttr, "an array of bindings">;
def KVCache_TriggerArrayAttr : TypedArrayAttrBase<KVCache_TriggerAttr, "an array of triggers">;
def KVCache_StatArrayAttr : TypedArrayAttrBase<KVCache_StatAttr, "an array of statistics">;

#endif
