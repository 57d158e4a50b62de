// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An executable as IR. Meaning and constraints: ScheduleOps.td.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace mlir::kvcache {

/// Whether a type is that of slots: a cell of 64 bits.
bool isSlotType(Type type);
/// Whether a type is that of buffers: their bytes.
bool isBufferType(Type type);

} // namespace mlir::kvcache

#define GET_OP_CLASSES
#include "dialect/ScheduleOps.h.inc"
