// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What machine code may run here: the processor's features under the names of /proc/cpuinfo.

#pragma once

#include "runtime/Status.h"

#include <set>
#include <string>
#include <vector>

namespace kvcache::rt {

struct HostCpu {
  std::string model; ///< the name the processor gives itself
  bool isX86_64 = false;
  std::set<std::string> features;

  /// The processor of this machine; no features where /proc/cpuinfo cannot be read.
  static const HostCpu &detect();
};

/// How far an instruction set reaches: x86-64-v2 < x86-64-v3 < x86-64-v4; -1 for a name that is not
/// known.
int isaLevel(const std::string &isa);
/// Ok when code of `isa` that needs `features` besides may run on `host`; bad input with the reason
/// otherwise.
Status checkRunnable(const HostCpu &host, const std::string &isa,
                     const std::vector<std::string> &features);

} // namespace kvcache::rt
