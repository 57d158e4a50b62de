// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Primitives that move rows: choose, take, put, cut and rename.

#ifndef KVCACHE_ROW_OPS
#define KVCACHE_ROW_OPS

include "dialect/KVCacheTypes.td"

def KVCache_TopkOp : KVCache_ComputeOp<"topk"> {
  let summary = "positions of the n largest values along an axis";
  let arguments = (ins KVCache_Tensor:$input, KVCache_Budget:$count, StrAttr:$axis);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = [{
    $input `count` $count `along` custom<AxisName>($axis) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_GatherOp : KVCache_ComputeOp<"gather"> {
  let summary = "takes the rows that an index set names";
  let arguments = (ins KVCache_Rows:$input, KVCache_Index:$at);
  let results = (outs KVCache_Rows:$output);
  let assemblyFormat = "$input `at` $at attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ScatterOp : KVCache_ComputeOp<"scatter"> {
  let summary = "adds or writes rows where an index set says";
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$input, KVCache_Tensor:$into, KVCache_Index:$at);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($fn) $input `into` $into `at` $at attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_SliceOp : KVCache_ComputeOp<"slice"> {
  let summary = "a range of positions along an axis";
  let arguments = (ins KVCache_Tensor:$input, StrAttr:$axis, KVCache_Count:$from, KVCache_Count:$size);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $input `along` custom<AxisName>($axis) `from` $from `size` $size attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_RelabelOp : KVCache_ComputeOp<"relabel"> {
  let summary = "the same data under other axis names: the author's assertion";
  let arguments = (ins KVCache_Tensor:$input);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
