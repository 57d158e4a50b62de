// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Turns the message into a LoadedExecutable, checking every reference on the way.

#pragma once

#include "runtime/exec/LoadedExecutable.h"

namespace kvcache::rt {

class ExecutableLoader {
public:
  explicit ExecutableLoader(LoadedExecutable &to) : to_(to), from_(*to.message_) {}
  Status run();

private:
  Status geometry();
  Status stores();
  Status tensors();
  Status program(const proto::Program &from, int32_t number);
  Status bindings(const proto::Program &from);
  Status carries(int32_t tensor) const;
  Status buffer(const proto::Buffer &from);
  Status step(const proto::Step &from, int32_t number);
  Status storeStep(const proto::Step &from, LoadedStep &to);
  Status codeStep(int32_t store, int32_t column, LoadedStep &to);
  Status kernel(const proto::Step::Kernel &from, LoadedKernel &to);
  Status args(const proto::Step::Kernel &from, LoadedKernel &to);
  Status ranked(const proto::Program &from);
  Status appliesTo(const proto::Program &from);
  Status dim(const proto::Dim &from, LoadedDim &to);
  Status inRange(int64_t index, int64_t count, const char *what) const;
  Status bad(const std::string &message) const;

  LoadedExecutable &to_;
  const proto::Executable &from_;
  LoadedProgram *program_ = nullptr;
  std::string where_;
};

} // namespace kvcache::rt
