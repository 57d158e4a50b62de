// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops on caches: grow, read and write columns, attend, and the rotary view.

#ifndef KVCACHE_CACHE_OPS
#define KVCACHE_CACHE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_AttendOp : KVCache_ComputeOp<"attend"> {
  let summary = "attention of queries over a cache, with statistics";
  let arguments = (ins KVCache_Tensor:$query, KVCache_Cache:$cache, UnitAttr:$causal, OptionalAttr<ArrayAttr>:$stats);
  let results = (outs KVCache_Tensor:$output, Variadic<KVCache_Tensor>:$statistics);
  let assemblyFormat = [{
    $query `over` $cache (`causal` $causal^)? (`stats` custom<Stats>($stats)^)?
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_AppendOp : KVCache_ComputeOp<"append"> {
  let summary = "adds rows at the end of a cache";
  let arguments = (ins KVCache_Cache:$cache, ArrayAttr:$columns, Variadic<KVCache_Tensor>:$values);
  let results = (outs KVCache_Cache:$output);
  let assemblyFormat = [{
    $cache `,` custom<NamedOperands>($columns, $values) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ColumnOp : KVCache_ComputeOp<"column"> {
  let summary = "a column of a cache as a tensor";
  let arguments = (ins StrAttr:$name, KVCache_Cache:$cache);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "custom<Word>($name) `of` $cache attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SetColumnOp : KVCache_ComputeOp<"set_column"> {
  let summary = "the cache with other values in some columns";
  let arguments = (ins KVCache_Cache:$cache, ArrayAttr:$columns, Variadic<KVCache_Tensor>:$values);
  let results = (outs KVCache_Cache:$output);
  let assemblyFormat = [{
    $cache `,` custom<NamedOperands>($columns, $values) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_RopeOp : KVCache_ComputeOp<"rope"> {
  let summary = "rotary embedding at given positions: a view of a cache, or a tensor";
  let arguments = (ins KVCache_Rows:$input, KVCache_Tensor:$positions);
  let results = (outs KVCache_Rows:$output);
  let assemblyFormat = "$input `by` $positions attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
