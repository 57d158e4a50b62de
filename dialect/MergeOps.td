// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Merging: folds dropped rows into kept ones.

#ifndef KVCACHE_MERGE_OPS
#define KVCACHE_MERGE_OPS

include "dialect/KVCacheTypes.td"

def KVCache_MergeIntoOp : KVCache_ComputeOp<"merge.into"> {
  let summary = "weighted mean of each destination row with the rows assigned to it";
  let description = [{
    out[d] = (dst[d] + sum over i with at[i] = d of w_i src_i) / (1 + sum of those w_i) where some w_i > 0, else dst[d]
    unchanged; i ascending. (C1) the destination has the domain as axis; (C2) the source has the destination's
    axes with the domain replaced; (C3) weights have the index set's axes; (C4) the result has the
    destination's type; (C5) rows are exact: codes have no mean, so they are merged before their commit.
  }];
  let arguments = (ins KVCache_Tensor:$source, KVCache_Tensor:$destination, KVCache_Index:$at, KVCache_Tensor:$weight);
  let results = (outs KVCache_Tensor:$output);
  let assemblyFormat = [{
    $source `,` $destination `at` $at `weight` $weight attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif
