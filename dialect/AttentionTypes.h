// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The checks that attention with and without output share: which axes queries, statistics and
// outputs have, given a cache.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/IR/Operation.h"

namespace mlir::kvcache {

/// C1: the cache has columns k, v and pos; C2: the query has k's feature axes, and the row axes but
/// the token axis, next to axes of its own.
LogicalResult verifyAttentionOperands(Operation *op, Value query, CacheType cache);
/// The query's axes without k's feature axes but `head`: one point is one row of probabilities.
SmallVector<AxisAttr> rowAxesOfQuery(AxisTensorType query, CacheType cache);
/// The axes of a statistic: those of the query's rows without those summed over; for
/// `sum` followed by the token axis.
SmallVector<AxisAttr> statisticAxes(AxisTensorType query, CacheType cache, StatAttr stat);
/// One result per statistic, each with the axes above.
LogicalResult verifyStatistics(Operation *op, Value query, CacheType cache, ArrayAttr stats,
                               ValueRange results);
/// The axes of the query's rows, then v's feature axes that are not among them.
SmallVector<AxisAttr> attentionOutputAxes(AxisTensorType query, CacheType cache);

} // namespace mlir::kvcache
