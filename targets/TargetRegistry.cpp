// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A new target is one line here and a folder beside it.

#include "targets/TargetRegistry.h"

namespace mlir::kvcache {

ArrayRef<const Target *> allTargets() {
  static const Target *const targets[] = {&cpuTarget(), &referenceTarget()};
  return targets;
}

const Target *findTarget(StringRef name) {
  for (const Target *target : allTargets()) {
    if (target->name() == name) {
      return target;
    }
  }
  return nullptr;
}

} // namespace mlir::kvcache
