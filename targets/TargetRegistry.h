// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The targets of this build, by name.

#pragma once

#include "targets/Target.h"

namespace mlir::kvcache {

/// Every target, in the order `--help` lists them.
ArrayRef<const Target *> allTargets();
/// The target called `name`; null when there is none.
const Target *findTarget(StringRef name);

} // namespace mlir::kvcache
