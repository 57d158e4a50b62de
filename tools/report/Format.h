// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How numbers look in tables.

#pragma once

#include "runtime/eval/Cell.h"

#include <map>
#include <string>

namespace kvcache::tools {

/// Three significant digits: 0.0123, 1.23, 12.3, 123; "0" for 0, "nan" for none.
std::string numberText(double value);
/// 812 B, 48.0 KiB, 3.25 MiB.
std::string bytesText(double bytes);
/// 0.97 [0.91, 0.99].
std::string shareText(double share, const rt::Interval &interval);
/// 850 us, 12.3 ms, 1.20 s.
std::string secondsText(double seconds);
/// "bits=4 group=64"; "-" for none.
std::string settingsText(const std::map<std::string, std::string> &params);
/// "128" where layers and heads keep the same, else "40..216"; rounded means over samples.
std::string keptText(const rt::CellReport &cell);

} // namespace kvcache::tools
