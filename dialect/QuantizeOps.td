// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Quantization: rows to codes.

#ifndef KVCACHE_QUANTIZE_OPS
#define KVCACHE_QUANTIZE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_QuantizeEncodeOp : KVCache_ComputeOp<"quantize.encode"> {
  let summary = "codes rows as the result's storage says";
  let arguments = (ins KVCache_Tensor:$input);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
