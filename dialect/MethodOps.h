// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops that state the structure of a method. Meaning and constraints: MethodOps.td.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace mlir::kvcache {
// Parents of yield; defined by their own families.
class AttendOp;
class MapOp;
class ScoreReduceOp;
class SelectWhereOp;
} // namespace mlir::kvcache

#define GET_OP_CLASSES
#include "dialect/MethodOps.h.inc"
