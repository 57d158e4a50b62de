// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Primitives that compute: every family op decomposes to these.

#ifndef KVCACHE_PRIMITIVE_OPS
#define KVCACHE_PRIMITIVE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_MapOp : KVCache_ComputeOp<"map", [SingleBlock]> {
  let summary = "a scalar function of each element, broadcast by axis name";
  let arguments = (ins Variadic<KVCache_Element>:$inputs);
  let results = (outs Variadic<KVCache_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Block &getScalarBody() { return getBody().front(); }
  }];
}

def KVCache_ReduceOp : KVCache_ComputeOp<"reduce"> {
  let summary = "sum, mean, max, min, argmax, count or quantile over axes";
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$input, ArrayAttr:$axes, Optional<KVCache_Element>:$at);
  let results = (outs AnyTypeOf<[KVCache_Tensor, KVCache_Index]>:$output);
  let assemblyFormat = [{
    custom<Word>($fn) $input `over` custom<AxisNames>($axes) (`at` $at^)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ContractOp : KVCache_ComputeOp<"contract"> {
  let summary = "sum of products over named axes";
  let arguments = (ins KVCache_Tensor:$lhs, KVCache_Tensor:$rhs, ArrayAttr:$axes);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $lhs `,` $rhs `over` custom<AxisNames>($axes) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_PoolOp : KVCache_ComputeOp<"pool"> {
  let summary = "average or maximum of a centred window along an axis";
  let arguments = (ins AnyAttr:$fn, KVCache_Tensor:$input, StrAttr:$axis, KVCache_Count:$size,
                       Optional<KVCache_Count>:$upto);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<PoolFunction>($fn) $input `over` `[` custom<AxisName>($axis) `]` `size` $size (`upto` $upto^)?
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// "avg" or "max"; empty while it is a symbol.
    ::llvm::StringRef getFunction();
  }];
}

def KVCache_IotaOp : KVCache_ComputeOp<"iota"> {
  let summary = "positions along an axis of a value";
  let arguments = (ins StrAttr:$axis, KVCache_Any:$of);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "custom<AxisName>($axis) `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ExtentOp : KVCache_ComputeOp<"extent"> {
  let summary = "the extent of an axis of a value";
  let arguments = (ins StrAttr:$axis, KVCache_Any:$of);
  let results = (outs Index:$output);
  let assemblyFormat = "custom<AxisName>($axis) `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_EighOp : KVCache_ComputeOp<"eigh"> {
  let summary = "eigenvalues and eigenvectors of symmetric matrices";
  let arguments = (ins KVCache_Tensor:$matrix);
  let results = (outs KVCache_Tensor:$eigenvalues, KVCache_Tensor:$eigenvectors);
  let assemblyFormat = "$matrix attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
