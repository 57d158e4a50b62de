// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Projection: rows in another basis.

#ifndef KVCACHE_PROJECT_OPS
#define KVCACHE_PROJECT_OPS

include "dialect/KVCacheTypes.td"

def KVCache_ProjectHadamardOp : KVCache_ComputeOp<"project.hadamard"> {
  let summary = "orthonormal Hadamard transform along an axis";
  let arguments = (ins KVCache_Tensor:$input, StrAttr:$axis);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input `along` custom<AxisName>($axis) attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def KVCache_ProjectLowrankOp : KVCache_ComputeOp<"project.lowrank"> {
  let summary = "coefficients of rows, their mean removed, in a basis";
  let arguments = (ins KVCache_Tensor:$input, KVCache_Tensor:$basis, KVCache_Tensor:$mean);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $input `by` $basis `mean` $mean attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
