// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scores: what entries are ranked by.

#ifndef KVCACHE_SCORE_OPS
#define KVCACHE_SCORE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_ScoreAttentionOp : KVCache_ComputeOp<"score.attention"> {
  let summary = "statistics of attention without its output";
  let arguments = (ins KVCache_Tensor:$query, KVCache_Cache:$cache, UnitAttr:$causal, ArrayAttr:$stats);
  let results = (outs Variadic<KVCache_Tensor>:$statistics);
  let assemblyFormat = [{
    $query `over` $cache (`causal` $causal^)? `stats` custom<Stats>($stats)
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ScoreNormOp : KVCache_ComputeOp<"score.norm"> {
  let summary = "Euclidean norm over axes";
  let arguments = (ins KVCache_Tensor:$input, ArrayAttr:$axes);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input `over` custom<AxisNames>($axes) attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ScoreNearestOp : KVCache_ComputeOp<"score.nearest"> {
  let summary = "the most similar candidate of each row";
  let arguments = (ins StrAttr:$metric, KVCache_Tensor:$input, KVCache_Tensor:$candidates, StrAttr:$axis);
  let results = (outs KVCache_Tensor:$best, KVCache_Index:$at);
  let assemblyFormat = [{
    custom<Word>($metric) $input `,` $candidates `along` custom<AxisName>($axis)
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
