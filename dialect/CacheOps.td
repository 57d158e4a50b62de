// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops on caches: grow, read and write columns, attend, and the rotary view.

#ifndef KVCACHE_CACHE_OPS
#define KVCACHE_CACHE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_AttendOp : KVCache_ComputeOp<"attend", [AttrSizedOperandSegments]> {
  let summary = "attention of queries over a cache, with statistics";
  let description = [{
    z_j = q . k_j / sqrt(D); p = softmax of z over the visible entries; out = sum_j p_j v_j, 0 when none is visible.
    `causal`: entry j is visible to a query when pos_j <= the query's position; otherwise all are. Extra axes
    of the query (`group`) share the entries. An axis `head` among k's features is not summed over: the rows are those of all
    heads, each reads its own values in them, and `head` counts with the query's row axes. Statistics: `sum(p, over(a), last(n))` adds p over axes of the
    query, only its last n rows with `last`; `lse` is log sum_j exp(z_j). D is the model's head dim, also where keys have
    fewer channels. `at`: only the entries of the index set are read, for each point of its other axes. `logit`: z is replaced by
    f(z, qpos, kpos, inputs) before the softmax; f has the spellings of `map`, its first arguments are z (f32) and the positions qpos and
    kpos (i32).
    (C1) the cache has columns k, v and pos; (C2) the query has k's feature axes and the cache's row axes but
    token; (C3) the output has the query's axes with k's feature axes replaced by v's; (C4) there is one
    result per statistic, with the query's axes left over and, for sums, the token axis; (C5) `at` is an index set of the token axis over some of the query's
    axes, and then there are no sums; (C6) inputs are scalars, or tensors over axes of the query but k's features, and the token
    axis; (C7) the region takes z, qpos, kpos and the inputs' scalars and yields f32.
  }];
  let arguments = (ins KVCache_Tensor:$query, KVCache_Cache:$cache, Optional<KVCache_Index>:$at,
                       Variadic<KVCache_Element>:$inputs, UnitAttr:$causal, OptionalAttr<KVCache_StatArrayAttr>:$stats);
  let results = (outs KVCache_Tensor:$output, Variadic<KVCache_Tensor>:$statistics);
  let regions = (region MaxSizedRegion<1>:$logit);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The body of `logit`; null when logits stay as they are.
    ::mlir::Block *getLogitBody() { return getLogit().empty() ? nullptr : &getLogit().front(); }
  }];
}

def KVCache_AppendOp : KVCache_ComputeOp<"append"> {
  let summary = "adds rows at the end of a cache";
  let description = [{
    Rows are added at the end, exact until the event is committed; columns that are not given start at 0.
    (C1) columns exist and are named once; (C2) values have the column's feature axes, an axis of kind query
    or token along which rows are added, and some of the row axes; (C3) the result has the cache's type.
  }];
  let arguments = (ins KVCache_Cache:$cache, StrArrayAttr:$columns, Variadic<KVCache_Tensor>:$values);
  let results = (outs KVCache_Cache:$output);
  let assemblyFormat = [{
    $cache `,` custom<NamedOperands>($columns, $values) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ColumnOp : KVCache_ComputeOp<"column"> {
  let summary = "a column of a cache as a tensor";
  let description = [{
    The rows as they read now: decoded when coded. (C1) the column exists; (C2) the result has row axes, then
    feature axes, and elements like the column's.
  }];
  let arguments = (ins StrAttr:$name, KVCache_Cache:$cache);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "custom<Word>($name) `of` $cache attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SetColumnOp : KVCache_ComputeOp<"set_column"> {
  let summary = "the cache with other values in some columns";
  let description = [{
    (C1) columns exist and are named once; (C2) values have row axes, then feature axes; (C3) the result has the
    cache's type.
  }];
  let arguments = (ins KVCache_Cache:$cache, StrArrayAttr:$columns, Variadic<KVCache_Tensor>:$values);
  let results = (outs KVCache_Cache:$output);
  let assemblyFormat = [{
    $cache `,` custom<NamedOperands>($columns, $values) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_RopeOp : KVCache_ComputeOp<"rope"> {
  let summary = "rotary embedding at given positions: a view of a cache, or a tensor";
  let description = [{
    Rotates pairs (x_i, x_{i + D/2}) by the angle position * inv_freq_i of the model. A cache is not copied: the view
    is applied when keys are read. (C1) the result differs in the tag of one channel axis (a cache: of
    column k); (C2) positions are integers over axes of the input.
  }];
  let arguments = (ins KVCache_Rows:$input, KVCache_Tensor:$positions);
  let results = (outs KVCache_Rows:$output);
  let assemblyFormat = "$input `by` $positions attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
