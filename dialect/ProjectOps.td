// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Projection: rows in another basis.

#ifndef KVCACHE_PROJECT_OPS
#define KVCACHE_PROJECT_OPS

include "dialect/KVCacheTypes.td"

def KVCache_ProjectHadamardOp : KVCache_ComputeOp<"project.hadamard"> {
  let summary = "orthonormal Hadamard transform along an axis";
  let description = [{
    out = H x, H_ij = (-1)^popcount(i & j) / sqrt(n). (C1) the input has the axis; (C2) its extent is a power of two;
    (C3) the result has the same axes, this one with another tag.
  }];
  let arguments = (ins KVCache_Tensor:$input, StrAttr:$axis);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input `along` custom<AxisName>($axis) attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ProjectLowrankOp : KVCache_ComputeOp<"project.lowrank"> {
  let summary = "coefficients of rows, their mean removed, in a basis";
  let description = [{
    out[r] = sum_c (x[c] - mean[c]) basis[c, r]. (C1) the basis has a channel and a rank axis; (C2) its other axes and
    the channel are axes of the input; (C3) the mean has the basis' axes without rank; (C4) the result
    has the input's axes with the channel replaced by the rank.
  }];
  let arguments = (ins KVCache_Tensor:$input, KVCache_Tensor:$basis, KVCache_Tensor:$mean);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $input `by` $basis `mean` $mean attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
