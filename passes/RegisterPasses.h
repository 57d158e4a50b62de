// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Makes the passes of Passes.td known to a pass driver.

#pragma once

namespace mlir::kvcache {

/// Registers every pass of the project under its flag. Call once, before the command line is read.
void registerKvasirPasses();

} // namespace mlir::kvcache
