// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the `fused` stage adds: a kernel, one loop nest over primitives.

#ifndef KVCACHE_KERNEL_OPS
#define KVCACHE_KERNEL_OPS

include "dialect/KVCacheTypes.td"

def KVCache_KernelOp : KVCache_Op<"kernel", [IsolatedFromAbove, SingleBlock, Pure]> {
  let summary = "primitives that are computed in one loop nest";
  let description = [{
    The block arguments stand for `inputs`, in order. Every value inside that `kernel.yield` does not
    name has no memory: it is computed where it is used. Outputs are the values that do.

    Constraints:
    - (C1) block arguments and inputs agree in number and types
    - (C2) results and yielded values agree in number and types
  }];
  let arguments = (ins Variadic<KVCache_Any>:$inputs);
  let results = (outs Variadic<KVCache_Any>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Block &getBlock() { return getBody().front(); }
    /// The yielded value of a result.
    ::mlir::Value getYielded(unsigned result) { return getBlock().getTerminator()->getOperand(result); }
  }];
}

def KVCache_KernelYieldOp : KVCache_Op<"kernel.yield", [Terminator, Pure, HasParent<"KernelOp">]> {
  let summary = "ends a kernel with the values that have memory";
  let arguments = (ins Variadic<KVCache_Any>:$values);
  let assemblyFormat = "$values attr-dict `:` type($values)";
}

#endif
