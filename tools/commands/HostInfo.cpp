// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads what Linux says about the processor.

#include "tools/commands/HostInfo.h"

#include "runtime/exec/HostCpu.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace kvcache::tools {

int64_t lastLevelCacheBytes() {
  int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size");
    int64_t size = 0;
    char unit = 0;
    if (file >> size) {
      file >> unit;
      largest = std::max(largest, size * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1));
    }
  }
  return largest;
}

int usableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return CPU_COUNT(&set);
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

nlohmann::ordered_json hostInfo() {
  using Json = nlohmann::ordered_json;
  const rt::HostCpu &cpu = rt::HostCpu::detect();
  int64_t llc = lastLevelCacheBytes();
  return {{"cpu", cpu.model.empty() ? Json(nullptr) : Json(cpu.model)},
          {"features", cpu.features},
          {"cores", usableCores()},
          {"llc_bytes", llc > 0 ? Json(llc) : Json(nullptr)}};
}

} // namespace kvcache::tools
