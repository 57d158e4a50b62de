// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir demo: every shipped method on the bundled model, one table, one page.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"
#include "tools/report/ReportData.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

/// A method to be timed with these parameters, the others at their defaults.
struct TimedMethod {
  std::string name;
  std::map<std::string, std::string> parameters;
};

/// What was measured, in the order of the methods, or why not; and at which setting and with which
/// control: "heads 32/8, D 128, T 32768, 2 threads; control: ...".
struct AttendTimings {
  std::string setting;
  std::vector<rt::StatusOr<AttendTiming>> methods;
};

/// Times decode attention over the storage of methods against dense.
using AttendTimer = std::function<rt::StatusOr<AttendTimings>(const std::vector<TimedMethod> &)>;

/// The demo without timings when `timer` is empty.
std::unique_ptr<Command> makeDemoCommand(MethodProvider &provider, AttendTimer timer);

} // namespace kvcache::tools
