// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Quantization: rows to codes.

#ifndef KVCACHE_QUANTIZE_OPS
#define KVCACHE_QUANTIZE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_QuantizeEncodeOp : KVCache_ComputeOp<"quantize.encode"> {
  let summary = "codes rows as the result's storage says";
  let description = [{
    Codes of the result's storage term, in f32 and in this order: with a minimum, s = f16((max - min) / (2^b - 1)),
    z = f16(min), code = clamp(round_half_even((x - z) / s), 0, 2^b - 1), 0 when s = 0, read back as
    code s + z. With a zero point: h = clip max(max, 0), l = clip min(min, 0), (1, -1) when both are 0; s =
    f16((h - l) / (2^b - 1)), z = round_half_even(-l / s), code = clamp(round_half_even(x / s) + z, 0, 2^b - 1), read
    back as (code - z) s. (C1) the input is
    dense and the result coded; (C2) both have the same axes; (C3) no phase codes rows: they are coded at a commit, by their
    storage or by an encoder.
  }];
  let arguments = (ins KVCache_Tensor:$input);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = "$input attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
