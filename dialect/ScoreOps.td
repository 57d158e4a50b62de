// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scores: what entries are ranked by.

#ifndef KVCACHE_SCORE_OPS
#define KVCACHE_SCORE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_ScoreAttentionOp : KVCache_ComputeOp<"score.attention"> {
  let summary = "statistics of attention without its output";
  let description = [{
    The statistics of `attend`. (C1) the cache has columns k, v and pos; (C2) the query has k's feature axes
    and the cache's row axes but token; (C3) there is one result per statistic, with the query's axes left
    over and, for sums, the token axis.
  }];
  let arguments = (ins KVCache_Tensor:$query, KVCache_Cache:$cache, UnitAttr:$causal, KVCache_StatArrayAttr:$stats);
  let results = (outs Variadic<KVCache_Tensor>:$statistics);
  let assemblyFormat = [{
    $query `over` $cache (`causal` $causal^)? `stats` `` custom<Stats>($stats)
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ScoreReduceOp : KVCache_ComputeOp<"score.reduce", [AttrSizedOperandSegments, SingleBlock]> {
  let summary = "a function of the attention probabilities, reduced over rows and query heads, without holding them";
  let description = [{
    p = softmax over the visible entries of q . k / sqrt(D), as in `attend`; out[.., j] = sum or max over the axes
    `along` of f(p, qpos, kpos, inputs) where entry j is visible; invisible entries add 0 to a sum and -inf to a max.
    `mean [a]`: p is first averaged over axis a, which is then gone. `last(n)`: only the last n rows of the query.
    f has the spellings of `map`; its first arguments are p (f32) and the positions qpos and kpos (i32), then
    the inputs. `lse`, the log-sum-exp of each row, is computed when it is not given. With no axis in `along` the values of f
    themselves are the result.
    (C1) the cache has columns k, v and pos; (C2) the query has k's feature axes and the cache's row axes but
    token; (C3) the function is sum or max; (C4) inputs are scalars, or tensors over axes of the query but k's features, and the
    token axis; (C5) axes in `along` and `mean` are such axes of the query, and distinct; (C6) the result has those left, then
    the token axis; (C7) lse has all of them; (C8) the region takes p, qpos, kpos and the inputs' scalars and yields f32.
  }];
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$query, KVCache_Cache:$cache, Optional<KVCache_Tensor>:$lse,
                       Variadic<KVCache_Element>:$inputs, UnitAttr:$causal, OptionalAttr<StrAttr>:$mean,
                       StrArrayAttr:$axes, OptionalAttr<AnyAttr>:$last);
  let results = (outs KVCache_Tensor:$output);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Block &getScalarBody() { return getBody().front(); }
    /// The axes `along` and `mean`: those of the query that the result lacks.
    ::llvm::SmallVector<::llvm::StringRef> getGoneAxes();
  }];
}

def KVCache_ScoreNormOp : KVCache_ComputeOp<"score.norm"> {
  let summary = "Euclidean norm over axes";
  let description = [{
    sqrt(sum x^2) over the axes. (C1) they are axes of the input; (C2) the result has the others.
  }];
  let arguments = (ins KVCache_Tensor:$input, StrArrayAttr:$axes);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input `over` custom<AxisNames>($axes) attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ScoreNearestOp : KVCache_ComputeOp<"score.nearest"> {
  let summary = "the most similar candidate of each row";
  let description = [{
    For each row a of the input the best candidate b along the axis, compared over the channel axis. cosine:
    a . b / (max(|a|, 1e-6) max(|b|, 1e-6)), largest; l2: |a - b|, smallest. Of equal values (in f32) the lowest
    position. The matrix of all pairs is never held. (C1) the metric is cosine or l2; (C2) candidates have the
    axis, and else only axes of the input; (C3) both results have the input's axes without channels, and
    positions are along the axis.
  }];
  let arguments = (ins StrAttr:$metric, KVCache_Tensor:$input, KVCache_Tensor:$candidates, StrAttr:$axis);
  let results = (outs KVCache_Tensor:$best, KVCache_Index:$at);
  let assemblyFormat = [{
    custom<Word>($metric) $input `,` $candidates `along` custom<AxisName>($axis)
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
