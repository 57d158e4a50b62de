// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Types of the dialect: AxisTensorType, IndexSetType, CacheType.

#pragma once

#include "dialect/KVCacheAttrs.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Types.h"

#define GET_TYPEDEF_CLASSES
#include "dialect/KVCacheTypes.h.inc"
