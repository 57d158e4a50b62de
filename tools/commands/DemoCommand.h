// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir demo: every shipped method on the bundled model, one table, one page.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"
#include "tools/report/ReportData.h"

#include <functional>
#include <memory>

namespace kvcache::tools {

/// Times decode attention over the storage of a method against dense, at the geometry that
/// `AttendTimer::geometry` states, with all parameters at their values in `parameters`.
struct AttendTimer {
  std::string geometry; ///< "heads 32/8, D 128, T 32768"
  std::function<rt::StatusOr<AttendTiming>(const std::string &method,
                                           const std::map<std::string, std::string> &parameters)>
      time;
};

/// The demo without timings when `timer.time` is empty.
std::unique_ptr<Command> makeDemoCommand(MethodProvider &provider, AttendTimer timer);

} // namespace kvcache::tools
