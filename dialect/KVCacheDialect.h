// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect class alone. It includes no op, type or attribute header, so users that only register
// the dialect are not rebuilt when an op changes.

#pragma once

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Dialect.h"

#include "dialect/KVCacheDialect.h.inc"

namespace mlir::kvcache {

// One hook per family of ops, defined in the family's own file.
void registerMethodOps(KVCacheDialect *dialect);
void registerPrimitiveOps(KVCacheDialect *dialect);
void registerRowOps(KVCacheDialect *dialect);
void registerCacheOps(KVCacheDialect *dialect);
void registerScoreOps(KVCacheDialect *dialect);
void registerSelectOps(KVCacheDialect *dialect);
void registerQuantizeOps(KVCacheDialect *dialect);
void registerMergeOps(KVCacheDialect *dialect);
void registerProjectOps(KVCacheDialect *dialect);
void registerKernelOps(KVCacheDialect *dialect);
void registerScheduleOps(KVCacheDialect *dialect);

} // namespace mlir::kvcache
