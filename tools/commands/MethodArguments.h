// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The options by which a command names a method, and the request they make.

#pragma once

#include "tools/commands/MethodProvider.h"

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace kvcache::tools {

struct MethodArguments {
  std::string method;
  std::vector<std::string> settings; ///< --set NAME=VALUE
  std::string target = "cpu";
  bool requireFused = false;
  std::string products = "f32"; ///< f32 | int16

  /// What `products` asks for: MethodRequest::integerProducts.
  bool integerProducts() const { return products == "int16"; }

  /// METHOD, --set, --target, --require-fused, --products.
  void declare(CLI::App &app, const MethodProvider &provider);
  /// --set and --require-fused: for commands that take several methods or a fixed target.
  void declareSettings(CLI::App &app);
  /// --products.
  void declareProducts(CLI::App &app);
};

/// Splits NAME=VALUE. Bad input, naming the option, when one is not of that form or a name is given
/// twice.
rt::StatusOr<std::map<std::string, std::string>>
parseSettings(const std::vector<std::string> &settings);

/// Bad input when `provider` does not know `target`.
rt::Status checkTarget(const MethodProvider &provider, const std::string &target);

/// Loads the method for a geometry; `inherited` are parameters that --set overrides.
rt::StatusOr<MethodRequest> makeRequest(const MethodArguments &arguments,
                                        const MethodProvider &provider,
                                        const rt::Geometry &geometry,
                                        const std::map<std::string, std::string> &inherited = {});

/// Reads "L=2,Hq=4,Hkv=2,D=32,act=f16" into `geometry`; keys that are not named stay. `tokens`
/// takes T where the caller allows it (null otherwise). Bad input names the key.
rt::Status parseGeometry(const std::string &text, rt::Geometry &geometry, int64_t *tokens);

} // namespace kvcache::tools
