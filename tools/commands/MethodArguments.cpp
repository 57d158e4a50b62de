// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text of options to requests. Whether a parameter exists and its value fits is the provider's to
// say.

#include "tools/commands/MethodArguments.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

static std::string joined(const std::vector<std::string> &words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  }
  return text;
}

void MethodArguments::declareSettings(CLI::App &app) {
  app.add_option("--set", settings, "Set a parameter of the method: NAME=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--require-fused", requireFused, "Fail unless every kernel is fused");
}

void MethodArguments::declareProducts(CLI::App &app) {
  app.add_option("--products", products,
                 "What attention on cpu multiplies codes as: f32, or int16 (queries and probabilities as "
                 "fixed-point numbers of 16 bits, sums exact)")
      ->check(CLI::IsMember({"f32", "int16"}))
      ->capture_default_str();
}

void MethodArguments::declare(CLI::App &app, const MethodProvider &provider) {
  app.add_option("METHOD", method, "A shipped method, A+B, a .mlir or a .kvx file")->required();
  app.add_option("--target", target, "Where to run: " + joined(provider.targets()))
      ->capture_default_str();
  declareProducts(app);
  declareSettings(app);
}

StatusOr<std::map<std::string, std::string>>
parseSettings(const std::vector<std::string> &settings) {
  std::map<std::string, std::string> values;
  for (const std::string &setting : settings) {
    size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Status::badInput("--set " + setting + ": expected NAME=VALUE");
    }
    if (!values.emplace(setting.substr(0, equals), setting.substr(equals + 1)).second) {
      return Status::badInput("--set " + setting + ": parameter '" + setting.substr(0, equals) +
                              "' is set twice");
    }
  }
  return values;
}

Status checkTarget(const MethodProvider &provider, const std::string &target) {
  std::vector<std::string> known = provider.targets();
  if (std::find(known.begin(), known.end(), target) == known.end()) {
    return Status::badInput("--target " + target + ": unknown target, expected " + joined(known));
  }
  return Status::ok();
}

StatusOr<MethodRequest> makeRequest(const MethodArguments &arguments,
                                    const MethodProvider &provider, const rt::Geometry &geometry,
                                    const std::map<std::string, std::string> &inherited) {
  KVCACHE_RETURN_IF_ERROR(checkTarget(provider, arguments.target));
  if (arguments.integerProducts() && arguments.target == "reference") {
    return Status::badInput("--products " + arguments.products +
                            ": the reference computes in double, expected --target cpu");
  }
  auto settings = parseSettings(arguments.settings);
  KVCACHE_RETURN_IF_ERROR(settings.status());
  MethodRequest request;
  request.method = arguments.method;
  request.parameters = *settings;
  request.parameters.insert(inherited.begin(), inherited.end());
  request.geometry = geometry;
  request.target = arguments.target;
  request.requireFused = arguments.requireFused;
  request.integerProducts = arguments.integerProducts();
  return request;
}

static bool readCount(const std::string &text, int64_t &value) {
  bool plain = !text.empty() && text.size() < 10 &&
               text.find_first_not_of("0123456789") == std::string::npos;
  value = plain ? std::stoll(text) : 0;
  return value > 0;
}

Status parseGeometry(const std::string &text, rt::Geometry &geometry, int64_t *tokens) {
  std::string where = "--geometry " + text + ": ",
              keys = std::string("L, Hq, Hkv, D") + (tokens ? ", T" : "") + " or act";
  size_t begin = 0;
  while (begin <= text.size()) {
    size_t end = std::min(text.find(',', begin), text.size());
    std::string item = text.substr(begin, end - begin);
    size_t equals = std::min(item.find('='), item.size());
    std::string key = item.substr(0, equals),
                value = equals < item.size() ? item.substr(equals + 1) : "";
    if (key == "act") {
      if (!abi::elementTypeFromName(value, geometry.act) ||
          static_cast<int>(geometry.act) > static_cast<int>(abi::ElementType::BF16)) {
        return Status::badInput(where + "act: expected f32, f16 or bf16, got '" + value + "'");
      }
    } else {
      int64_t *field = key == "L"             ? &geometry.layers
                       : key == "Hq"          ? &geometry.queryHeads
                       : key == "Hkv"         ? &geometry.kvHeads
                       : key == "D"           ? &geometry.headDim
                       : key == "T" && tokens ? tokens
                                              : nullptr;
      if (field == nullptr) {
        return Status::badInput(where + "unknown key '" + key + "', expected " + keys);
      }
      if (!readCount(value, *field)) {
        return Status::badInput(where + key + ": expected a number of at least 1, got '" + value +
                                "'");
      }
    }
    begin = end + 1;
  }
  if (geometry.kvHeads > 0 && geometry.queryHeads % geometry.kvHeads != 0) {
    return Status::badInput(where +
                            "Hq: expected a multiple of Hkv=" + std::to_string(geometry.kvHeads) +
                            ", got " + std::to_string(geometry.queryHeads));
  }
  return Status::ok();
}

} // namespace kvcache::tools
