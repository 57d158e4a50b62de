// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Selection: which entries stay, and how many.

#ifndef KVCACHE_SELECT_OPS
#define KVCACHE_SELECT_OPS

include "dialect/KVCacheTypes.td"

def KVCache_SelectTopkOp : KVCache_ComputeOp<"select.topk", [AttrSizedOperandSegments]> {
  let summary = "the best entries within a budget, first and last ones forced";
  let description = [{
    min(B, T) positions, ascending. T <= B keeps all. Otherwise the `first` f and the `last` l positions are forced and
    the best others fill up to B, the lowest on ties; when forced ones exceed B: the first min(f, B), then the
    newest. B is one number, or one for each point of some of the other axes.
    (C1) the result is a selection along one axis of the scores for each point of the others; (C2) B holds
    integers over the others.
  }];
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
  let description = [{
    The positions along the axis where the predicate holds, ascending. (C1) the result is a selection along the
    axis over the united axes of the inputs; (C2) block arguments have the scalar types of the inputs; (C3)
    the region yields one i1.
  }];
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
  let description = [{
    The positions that are not selected, ascending. (C1) both are selections of one axis of the operand; (C2) the
    result has another instance, and else the same axes.
  }];
  let arguments = (ins KVCache_Index:$kept, KVCache_Rows:$of);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = "$kept `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SelectUnionOp : KVCache_ComputeOp<"select.union"> {
  let summary = "the entries of either selection";
  let description = [{
    The positions in lhs or rhs, ascending, each once. (C1) both are selections of one axis of the operand; (C2) axes of the
    one are among those of the other, but for the instance; (C3) the result is a selection of that axis over the united axes.
  }];
  let arguments = (ins KVCache_Index:$lhs, KVCache_Index:$rhs, KVCache_Rows:$of);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = "$lhs `,` $rhs `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SelectExpandOp : KVCache_ComputeOp<"select.expand"> {
  let summary = "the members of selected blocks";
  let description = [{
    For the blocks b selected, positions [b n, min((b + 1) n, extent)) of the operand's axis, ascending. n >= 1.
    (C1) the blocks are a selection; (C2) the operand has the axis that the result selects; (C3) the result has the blocks'
    other axes.
  }];
  let arguments = (ins KVCache_Index:$blocks, KVCache_Count:$size, KVCache_Rows:$of);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = "$blocks `size` $size `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SelectFitOp : KVCache_ComputeOp<"select.fit"> {
  let summary = "the best items whose sizes fit into a total";
  let description = [{
    Items by descending score, the lowest position first on ties: each is taken when its size is at most what those taken
    before leave of the total; one that does not fit is passed over, and a later one may fit. Positions, ascending. Sizes and
    totals below 0 count as 0. NaN is refused when it runs. The number of steps is quadratic in that of the items.
    (C1) the result is a selection along one axis of the scores for each point of the others; (C2) sizes are integers over
    axes of the scores; (C3) the total holds integers over the others.
  }];
  let arguments = (ins KVCache_Tensor:$scores, KVCache_Budget:$sizes, KVCache_Budget:$total);
  let results = (outs KVCache_Index:$output);
  let assemblyFormat = "$scores `sizes` $sizes `total` $total attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_SelectAllocOp : KVCache_ComputeOp<"select.alloc", [AttrSizedOperandSegments]> {
  let summary = "a total split over heads, or over layers and heads";
  let description = [{
    global_topk: c[h] = how many of the n largest scores over all points lie at h; of equal scores the lowest flat
    position (h first, then token). With `upto` m only the first m points of the named axis take part, the others get 0; m may
    be integers over axes that the scores lack, and n over some of these: one split for each of their points.
    proportional: exact shares of `total` n. Each point starts with its floor f (0 when absent);
    the rest r = n - sum f is shared in proportion to the weights w: x = r w / sum w over the points that are open, in f64. As long as a point
    has f + x > its cap, all such points get their cap and close, and r is what the others have left; then floor(x), and the units still
    missing go one each to the largest x - floor(x), of equal ones the lowest flat position, never beyond a cap. All weights 0: equal ones.
    Where floors exceed n every point has its floor, where caps do not reach n its cap.
    (C1) the rule is known, only proportional has floor and cap, and only global_topk has `upto`; (C2) the result holds integers
    over the scores' axes, for global_topk without token and with those of m behind; (C3) floor and cap are integers over some of
    the scores' axes; (C4) the axis of `upto` is one of the scores' but token; (C5) n and m are integers, n over some axes of m, m
    over axes that the scores lack.
  }];
  let arguments = (ins StrAttr:$rule, KVCache_Tensor:$scores, KVCache_Budget:$total, Optional<KVCache_Budget>:$upto,
                       OptionalAttr<StrAttr>:$along, Optional<KVCache_Budget>:$floor, Optional<KVCache_Budget>:$cap);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($rule) $scores `total` $total (`upto` $upto^ `along` custom<AxisName>($along))? (`floor` $floor^)?
    (`cap` $cap^)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
