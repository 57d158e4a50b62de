// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every family of ops shares: the dialect record, the op base class and the type constraints.
// Constraints only tell the kind of a value; axes are compared by the verifiers, by name.

#ifndef KVCACHE_BASE
#define KVCACHE_BASE

include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def KVCache_Dialect : Dialect {
  let name = "kvcache";
  let cppNamespace = "::mlir::kvcache";
  let summary = "Methods that compress the key/value cache of a transformer";
  let description = [{
    Values are tensors with named axes, sets of indices along an axis, and caches: tables with row
    axes and named columns. Everything has value semantics; a cache that is updated is a new value.
    Two axes are equal only if their whole names are equal, which keeps bases (`channel.pre`,
    `channel.post`) and instances (`token`, `token.keep`) apart.
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
  let extraClassDeclaration = [{
    /// Registers the ops of one family; called from the family's own file, which alone sees them.
    template <typename... Ops> static void addOps(KVCacheDialect *dialect) { dialect->addOperations<Ops...>(); }
    void registerTypes();
    void registerAttrs();
  }];
}

class KVCache_Op<string mnemonic, list<Trait> traits = []> : Op<KVCache_Dialect, mnemonic, traits>;

// The form of nearly every op: operands by keyword, then one functional type.
class KVCache_ComputeOp<string mnemonic, list<Trait> traits = []>
    : KVCache_Op<mnemonic, !listconcat([Pure], traits)>;

def KVCache_Tensor : Type<CPred<"::llvm::isa<::mlir::kvcache::AxisTensorType>($_self)">, "tensor with named axes">;
def KVCache_Index : Type<CPred<"::llvm::isa<::mlir::kvcache::IndexSetType>($_self)">, "index set">;
def KVCache_Cache : Type<CPred<"::llvm::isa<::mlir::kvcache::CacheType>($_self)">, "cache">;
def KVCache_Rows : AnyTypeOf<[KVCache_Tensor, KVCache_Cache]>;
def KVCache_Scalar : AnyTypeOf<[Index, I64, I32, F32, F64, I1]>;
def KVCache_Count : AnyTypeOf<[Index, I64, I32]>;
def KVCache_Any : AnyTypeOf<[KVCache_Tensor, KVCache_Index, KVCache_Cache, KVCache_Scalar]>;
def KVCache_Element : AnyTypeOf<[KVCache_Tensor, KVCache_Scalar]>;
// Tokens: a number for all heads, or one for each point of a tensor's axes.
def KVCache_Budget : AnyTypeOf<[KVCache_Tensor, Index, I64, I32]>;

#endif
