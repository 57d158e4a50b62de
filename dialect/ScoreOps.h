// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scores of entries. Meaning and constraints: ScoreOps.td.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#define GET_OP_CLASSES
#include "dialect/ScoreOps.h.inc"
