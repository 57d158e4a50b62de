// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The three types of values: tensors with named axes, index sets and caches.

#ifndef KVCACHE_TYPES
#define KVCACHE_TYPES

include "dialect/KVCacheAttrs.td"

class KVCache_Type<string name, string typeMnemonic> : TypeDef<KVCache_Dialect, name> {
  let mnemonic = typeMnemonic;
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def KVCache_AxisTensorType : KVCache_Type<"AxisTensor", "tensor"> {
  let summary = "a tensor with named axes";
  let description = [{
    `!kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>`: axes in storage order, then an element
    type (`f32 f16 bf16 i1 i32 i64`, or `act` for the model's) or a storage term for coded rows.
    Without axes it holds one value. No two axes may have the same name.
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::kvcache::AxisAttr">:$axes,
                        "::mlir::Attribute":$element);
  let extraClassDeclaration = [{
    /// The builtin element type; null for `act` and for coded rows.
    ::mlir::Type getElementType() const;
    /// `act`: the model's element type, not bound yet.
    bool isAct() const;
    /// The storage term of coded rows (and `act`); null for builtin element types.
    StorageAttr getStorage() const;
    bool isCoded() const;
    /// The same element under other axes.
    AxisTensorType withAxes(::llvm::ArrayRef<AxisAttr> axes) const;
    static AxisTensorType get(::mlir::MLIRContext *context, ::llvm::ArrayRef<AxisAttr> axes, ::mlir::Type element);
  }];
}

def KVCache_IndexSetType : KVCache_Type<"IndexSet", "index"> {
  let summary = "positions along an axis";
  let description = [{
    `!kvcache.index<head:Hkv, token.keep:? of token>`: for each point of the axes, a position along
    the domain axis. It is a selection (ascending, unique) if the last axis is an instance of an
    untagged domain of the same kind (`token.keep of token`), an assignment otherwise.
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::kvcache::AxisAttr">:$axes, StringRefParameter<>:$domain);
  let extraClassDeclaration = [{
    bool isSelection() const;
  }];
}

def KVCache_CacheType : KVCache_Type<"Cache", "cache"> {
  let summary = "a table of entries";
  let description = [{
    `!kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = S, pos = i32}>`: it grows by
    append, has row axes that end in the token axis, and columns with feature axes and a storage term.
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::kvcache::AxisAttr">:$rows,
                        ArrayRefParameter<"::mlir::kvcache::ColumnAttr">:$columns);
  let extraClassDeclaration = [{
    /// The column called `name`; null when there is none.
    ColumnAttr getColumn(::llvm::StringRef name) const;
    /// The rows of a column as a dense tensor: row axes, then feature axes; coded columns in `act`.
    AxisTensorType getColumnType(::llvm::StringRef name) const;
  }];
}

#endif
