// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The outside witness of what a cache takes: memory of the process that is resident, as the system
// counts it. It sees every allocation, so it bounds the allocator's own count from above; memory
// that the process had before and uses again does not show.

#pragma once

#include <cstdint>
#include <cstdio>
#include <unistd.h>

namespace kvcache::rt {

/// Resident bytes of this process; 0 where the system does not tell.
inline int64_t residentBytes() {
  std::FILE *file = std::fopen("/proc/self/statm", "r");
  if (!file) {
    return 0;
  }
  long long size = 0, resident = 0;
  int fields = std::fscanf(file, "%lld %lld", &size, &resident);
  std::fclose(file);
  return fields == 2 ? resident * static_cast<int64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

} // namespace kvcache::rt
