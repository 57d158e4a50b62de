// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The levels of the x86-64 psABI, written as features of /proc/cpuinfo.

#include "runtime/exec/HostCpu.h"

#include <fstream>
#include <sstream>

namespace kvcache::rt {

static HostCpu readCpuInfo() {
  HostCpu cpu;
#if defined(__x86_64__)
  cpu.isX86_64 = true;
#endif
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && cpu.features.empty();) {
    size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) {
      continue;
    }
    std::string value = line.substr(colon + 2);
    if (line.rfind("model name", 0) == 0) {
      cpu.model = value;
    } else if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) {
      std::istringstream words(value);
      for (std::string word; words >> word;) {
        cpu.features.insert(word);
      }
    }
  }
  return cpu;
}

const HostCpu &HostCpu::detect() {
  static const HostCpu cpu = readCpuInfo();
  return cpu;
}

int isaLevel(const std::string &isa) {
  return isa == "x86-64-v2" ? 2 : isa == "x86-64-v3" ? 3 : isa == "x86-64-v4" ? 4 : -1;
}

static std::vector<std::string> featuresOfLevel(int level) {
  std::vector<std::string> features = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"};
  if (level >= 3) {
    features.insert(features.end(),
                    {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"});
  }
  if (level >= 4) {
    features.insert(features.end(), {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"});
  }
  return features;
}

Status checkRunnable(const HostCpu &host, const std::string &isa,
                     const std::vector<std::string> &features) {
  int level = isaLevel(isa);
  if (level < 0) {
    return Status::badInput("its code is for the unknown instruction set '" + isa + "'");
  }
  if (!host.isX86_64) {
    return Status::badInput("its code is for " + isa + ", this machine is not x86-64");
  }
  std::vector<std::string> needed = featuresOfLevel(level);
  needed.insert(needed.end(), features.begin(), features.end());
  std::string missing;
  for (const std::string &feature : needed) {
    if (host.features.count(feature) == 0 && missing.find(feature) == std::string::npos) {
      missing += (missing.empty() ? "" : " ") + feature;
    }
  }
  if (!missing.empty()) {
    return Status::badInput("its code for " + isa +
                            " needs CPU features this machine lacks: " + missing);
  }
  return Status::ok();
}

} // namespace kvcache::rt
