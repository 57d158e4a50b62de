// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The MethodProvider of compiled files: loads a .kvx, compiles nothing.

#pragma once

#include "tools/commands/MethodProvider.h"

namespace kvcache::tools {

class KvxProvider final : public MethodProvider {
public:
  /// `compiler` takes what is no .kvx file; null: that is bad input. Not owned.
  explicit KvxProvider(MethodProvider *compiler) : compiler_(compiler) {}

  /// Bad input, naming the file, when it is damaged, needs another processor, or was compiled for
  /// another geometry, and for --set: the parameters of an executable are bound.
  rt::StatusOr<std::unique_ptr<rt::Execution>> load(const MethodRequest &request) override;
  std::vector<MethodSummary> shipped() override;
  std::vector<std::string> targets() const override;

private:
  MethodProvider *compiler_;
};

/// True for the name of an executable.
bool isKvxName(const std::string &method);

} // namespace kvcache::tools
