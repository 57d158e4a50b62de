// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Numbers as text.

#include "tools/report/Format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvcache::tools {

std::string numberText(double value) {
  if (value == 0) {
    return "0";
  }
  if (!std::isfinite(value)) {
    return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  double size = std::abs(value);
  if (size < 1e-4 || size >= 1e7) {
    return fmt::format("{:.1e}", value);
  }
  int digits = std::clamp(2 - static_cast<int>(std::floor(std::log10(size))), 0, 6);
  return fmt::format("{:.{}f}", value, digits);
}

std::string bytesText(double bytes) {
  const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, units[unit]);
}

std::string shareText(double share, const rt::Interval &interval) {
  return fmt::format("{:.2f} [{:.2f}, {:.2f}]", share, interval.lo, interval.hi);
}

std::string secondsText(double seconds) {
  if (seconds < 1e-3) {
    return numberText(seconds * 1e6) + " us";
  }
  return seconds < 1 ? numberText(seconds * 1e3) + " ms" : numberText(seconds) + " s";
}

std::string settingsText(const std::map<std::string, std::string> &params) {
  std::string text;
  for (const auto &[name, value] : params) {
    text += (text.empty() ? "" : " ") + name + "=" + value;
  }
  return text.empty() ? "-" : text;
}

std::string keptText(const rt::CellReport &cell) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const std::vector<double> &layer : cell.keptTokens) {
    for (double kept : layer) {
      least = std::min(least, kept);
      most = std::max(most, kept);
    }
  }
  std::string low = fmt::format("{:.0f}", least), high = fmt::format("{:.0f}", most);
  return low == high ? low : low + ".." + high;
}

} // namespace kvcache::tools
