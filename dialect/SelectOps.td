// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Selection: which entries stay, and how many.

#ifndef KVCACHE_SELECT_OPS
#define KVCACHE_SELECT_OPS

include "dialect/KVCacheTypes.td"

def KVCache_SelectTopkOp : KVCache_ComputeOp<"select.topk", [AttrSizedOperandSegments]> {
  let summary = "the best entries within a budget, first and last ones forced";
  let arguments = (ins KVCache_Tensor:$scores, KVCache_Budget:$budget, Optional<KVCache_Count>:$first,
                       Optional<KVCache_Count>:$last);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = [{
    $scores `budget` $budget (`first` $first^)? (`last` $last^)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_SelectWhereOp : KVCache_ComputeOp<"select.where", [SingleBlock]> {
  let summary = "the entries for which a predicate holds";
  let arguments = (ins Variadic<KVCache_Element>:$inputs, StrAttr:$axis);
  let results = (outs KVCache_Index:$output);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Block &getScalarBody() { return getBody().front(); }
  }];
}

def KVCache_SelectComplementOp : KVCache_ComputeOp<"select.complement"> {
  let summary = "the entries that a selection leaves out";
  let arguments = (ins KVCache_Index:$kept, KVCache_Rows:$of);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = "$kept `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SelectAllocOp : KVCache_ComputeOp<"select.alloc"> {
  let summary = "how many of the best entries of all heads lie in each head";
  let arguments = (ins StrAttr:$rule, KVCache_Tensor:$scores, KVCache_Count:$total);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($rule) $scores `total` $total attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
