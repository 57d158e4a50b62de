// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Primitives that move rows: choose, take, put, cut and rename.

#ifndef KVCACHE_ROW_OPS
#define KVCACHE_ROW_OPS

include "dialect/KVCacheTypes.td"

def KVCache_TopkOp : KVCache_ComputeOp<"topk"> {
  let summary = "positions of the n largest values along an axis";
  let description = [{
    The positions of the min(n, extent) largest values along the axis, ascending; of equal values the lowest
    positions. n is one number or one for each point of the other axes.
    (C1) the input has the axis; (C2) the result is a selection of that axis for each point of the others;
    (C3) the axes of n are among the others.
  }];
  let arguments = (ins KVCache_Tensor:$input, KVCache_Budget:$count, StrAttr:$axis);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = [{
    $input `count` $count `along` custom<AxisName>($axis) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_GatherOp : KVCache_ComputeOp<"gather"> {
  let summary = "takes the rows that an index set names";
  let description = [{
    out[.., i, ..] = in[.., at[i], ..]: the new axes of the index set take the place of its domain; axes that both
    have run along. A cache is gathered in all its columns and keeps its type; an index set that lacks a
    row axis serves every point of it. (C1) the input has the domain as axis; (C2) rows of a cache are
    taken by a selection over some of its row axes; (C3) the result has the input's axes with the domain
    replaced (a cache: its type).
  }];
  let arguments = (ins KVCache_Rows:$input, KVCache_Index:$at);
  let results = (outs KVCache_Rows:$output);
  let assemblyFormat = "$input `at` $at attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ScatterOp : KVCache_ComputeOp<"scatter"> {
  let summary = "adds or writes rows where an index set says";
  let description = [{
    add: out = into, then out[.., at[i], ..] += in[.., i, ..] for i ascending; set: the last one written stays.
    (C1) the function is add or set; (C2) the destination has the domain as axis; (C3) the source has the
    destination's axes with the domain replaced; (C4) the result has the destination's type.
  }];
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$input, KVCache_Tensor:$into, KVCache_Index:$at);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($fn) $input `into` $into `at` $at attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_SliceOp : KVCache_ComputeOp<"slice"> {
  let summary = "a range of positions along an axis";
  let description = [{
    out[i] = in[from + i] for i in [0, size). (C1) the input has the axis; (C2) the result has the input's axes, this
    one with the extent of the slice.
  }];
  let arguments = (ins KVCache_Tensor:$input, StrAttr:$axis, KVCache_Count:$from, KVCache_Count:$size);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $input `along` custom<AxisName>($axis) `from` $from `size` $size attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_RelabelOp : KVCache_ComputeOp<"relabel"> {
  let summary = "the same data under other axis names: the author's assertion";
  let description = [{
    Nothing moves. (C1) extents and elements are the same.
  }];
  let arguments = (ins KVCache_Tensor:$input);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
