// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Primitives that compute: every family op decomposes to these.

#ifndef KVCACHE_PRIMITIVE_OPS
#define KVCACHE_PRIMITIVE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_MapOp : KVCache_ComputeOp<"map", [SingleBlock]> {
  let summary = "a scalar function of each element, broadcast by axis name";
  let description = [{
    out[x] = f(in_1[x], .., in_n[x]) for every point x of the united axes; an input that lacks an axis is
    repeated along it, a scalar everywhere. f computes in f32 for floating elements (`act` included) and
    in the integer type of others; results are rounded to their element when stored.
    Spellings: `%a, %b with arith.addf`, an expression `"(a - b) / c" (a = %a, ..)` (ScalarBody.h), a region.
    (C1) results have the united axes of the inputs, whose extents agree; (C2) block arguments have the
    scalar types of the inputs; (C3) the region yields one value per result, of its scalar type.
  }];
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
  let description = [{
    sum, mean, max, min: over all points of the reduced axes, in fixed leaf blocks in index order, whatever
    the number of threads; count: how many elements are not 0; argmax: the position of the largest, the lowest on ties; quantile: for sorted
    values x_0 <= .. <= x_{n-1} and place p = q (n - 1): x_floor(p) + (p - floor(p)) (x_ceil(p) - x_floor(p)),
    x_floor(p) when both are equal. Over nothing: sum, count, mean and quantile 0, max -inf, min +inf.
    (C1) the function is known; (C2) reduced axes are axes of the input; (C3) the result has the others, in
    order; (C4) argmax and quantile take one axis, and quantile alone takes `at`; (C5) argmax yields
    an index set over the reduced axis, the others a tensor.
  }];
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$input, StrArrayAttr:$axes, Optional<KVCache_Element>:$at);
  let results = (outs AnyTypeOf<[KVCache_Tensor, KVCache_Index]>:$output);
  let assemblyFormat = [{
    custom<Word>($fn) $input `over` custom<AxisNames>($axes) (`at` $at^)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ContractOp : KVCache_ComputeOp<"contract"> {
  let summary = "sum of products over named axes";
  let description = [{
    out[b, l, r] = sum over c of lhs[b, l, c] rhs[b, r, c]: c the contracted axes, b those that both share.
    (C1) contracted axes are axes of both operands; (C2) shared axes have one extent; (C3) the result has
    the axes of lhs, then those of rhs, without the contracted ones.
  }];
  let arguments = (ins KVCache_Tensor:$lhs, KVCache_Tensor:$rhs, StrArrayAttr:$axes);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $lhs `,` $rhs `over` custom<AxisNames>($axes) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_PoolOp : KVCache_ComputeOp<"pool"> {
  let summary = "average or maximum of a centred window along an axis";
  let description = [{
    Stride 1, centred: out[i] = f over j in [i - floor(n/2), i - floor(n/2) + n) of in[j] for i < S, S = `upto` or the
    extent, n odd; positions outside [0, S) count as 0 for avg (which divides by n) and as -inf for max;
    out[i] = 0 for i >= S. A function that is no keyword is a text parameter that names one.
    (C1) the function is avg, max or a symbol; (C2) the axis is an axis of the input; (C3) the result has
    the axes of the input.
  }];
  let arguments = (ins AnyAttr:$fn, KVCache_Tensor:$input, StrAttr:$axis, KVCache_Count:$size,
                       Optional<KVCache_Count>:$upto);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<PoolFunction>($fn) $input `over` custom<BracketedAxis>($axis) `size` $size (`upto` $upto^)?
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// "avg" or "max"; empty while it is a symbol.
    ::llvm::StringRef getFunction();
  }];
}

def KVCache_SortOp : KVCache_ComputeOp<"sort"> {
  let summary = "the values along an axis in order";
  let description = [{
    The values along the axis, descending or ascending. NaN is refused when it runs. With `blocks` n every block of n adjacent
    positions (the last may be short) is put in order by itself. n >= 1.
    (C1) the order is descending or ascending; (C2) the input has the axis; (C3) the result has the axes of the input.
  }];
  let arguments = (ins StrAttr:$order, KVCache_Tensor:$input, StrAttr:$axis, Optional<KVCache_Count>:$size);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($order) $input `along` custom<AxisName>($axis) (`blocks` $size^)? attr-dict
    `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ScanOp : KVCache_ComputeOp<"scan"> {
  let summary = "running sum or maximum along an axis";
  let description = [{
    out[i] = in[0] + .. + in[i] (max: the largest of them), added in index order, in f32 for floating elements; `reverse`
    runs from the last position down. (C1) the function is sum or max; (C2) the input has the axis; (C3) the
    result has the axes of the input.
  }];
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$input, StrAttr:$axis, UnitAttr:$reverse);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($fn) $input `along` custom<AxisName>($axis) (`reverse` $reverse^)? attr-dict
    `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_ConcatOp : KVCache_ComputeOp<"concat"> {
  let summary = "tensors behind one another along an axis";
  let description = [{
    out = lhs, then rhs. (C1) both have the axis, or an instance of its kind; (C2) other axes are the same; (C3) the
    result has the axis and the others.
  }];
  let arguments = (ins KVCache_Tensor:$lhs, KVCache_Tensor:$rhs, StrAttr:$axis);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $lhs `,` $rhs `along` custom<AxisName>($axis) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_BlocksOp : KVCache_ComputeOp<"blocks"> {
  let summary = "sum, mean, max or min of blocks of adjacent positions";
  let description = [{
    out[b] = f over i in [b n, min((b + 1) n, extent)) of in[i]: ceil(extent / n) blocks, of which the last may be short
    (a mean divides by the positions that it has). n >= 1.
    (C1) the function is sum, mean, max or min; (C2) the input has the axis; (C3) the result has the input's axes, this one
    replaced by an axis of another name (`page`).
  }];
  let arguments = (ins StrAttr:$fn, KVCache_Tensor:$input, StrAttr:$axis, KVCache_Count:$size);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    custom<Word>($fn) $input `along` custom<AxisName>($axis) `size` $size attr-dict
    `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def KVCache_IotaOp : KVCache_ComputeOp<"iota"> {
  let summary = "positions along an axis of a value";
  let description = [{
    out[i] = i for each position of the axis. (C1) the operand has the axis (a cache: among rows or features);
    (C2) the result is i32 over that axis alone.
  }];
  let arguments = (ins StrAttr:$axis, KVCache_Any:$of);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "custom<AxisName>($axis) `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ExtentOp : KVCache_ComputeOp<"extent"> {
  let summary = "the extent of an axis of a value";
  let description = [{
    How many positions the axis has now. (C1) the operand has the axis.
  }];
  let arguments = (ins StrAttr:$axis, KVCache_Any:$of);
  let results = (outs Index:$output);
  let assemblyFormat = "custom<AxisName>($axis) `of` $of attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_EighOp : KVCache_ComputeOp<"eigh"> {
  let summary = "eigenvalues and eigenvectors of symmetric matrices";
  let description = [{
    A = V diag(w) V^T over the last two axes: w descending, columns of V orthonormal, the entry of largest magnitude
    of each column positive (the first on ties). (C1) the last two axes have one extent; (C2) eigenvalues
    have the batch axes and a `rank` axis of that extent; (C3) eigenvectors have the batch axes, the
    first matrix axis and the rank axis.
  }];
  let arguments = (ins KVCache_Tensor:$matrix);
  let results = (outs KVCache_Tensor:$eigenvalues, KVCache_Tensor:$eigenvectors);
  let assemblyFormat = "$matrix attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
