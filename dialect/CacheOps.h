// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops on caches. Meaning and constraints: CacheOps.td.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#define GET_OP_CLASSES
#include "dialect/CacheOps.h.inc"
