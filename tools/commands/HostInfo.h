// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The machine a result was made on, for reports.

#pragma once

#include <nlohmann/json.hpp>

namespace kvcache::tools {

/// {cpu, features, cores, llc_bytes}; null for what the system does not tell.
nlohmann::ordered_json hostInfo();

/// Bytes of the last-level cache; 0 when unknown.
int64_t lastLevelCacheBytes();

/// Processors that this process may use.
int usableCores();

} // namespace kvcache::tools
