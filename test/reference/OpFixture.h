// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a few lines of IR on given values through the interpreter of the reference target, or a
// whole method through its Execution.

#pragma once

#include "targets/reference/Interpreter.h"
#include "targets/reference/ReferenceTarget.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/MethodOps.h"
#include "passes/pipelines/Stages.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mlir::kvcache::reference {

constexpr double infinity = std::numeric_limits<double>::infinity();

inline Tensor tensorOf(std::vector<Axis> axes, std::vector<double> values) {
  Tensor tensor(std::move(axes));
  EXPECT_EQ(tensor.values.size(), values.size());
  tensor.values = std::move(values);
  return tensor;
}

/// `tensor` with these lengths of its axis `ragged`, one per head.
inline Tensor raggedOf(Tensor tensor, const std::string &ragged, std::vector<int64_t> lengths) {
  tensor.ragged = ragged;
  tensor.lengths = std::move(lengths);
  return tensor;
}

struct Input {
  std::string type;
  RuntimeValue value;
};

class ReferenceTest : public ::testing::Test {
protected:
  ReferenceTest() {
    DialectRegistry registry;
    registry.insert<KVCacheDialect, arith::ArithDialect, math::MathDialect, scf::SCFDialect>();
    context_.appendDialectRegistry(registry);
    context_.loadAllAvailableDialects();
    context_.disableMultithreading();
    geometry_ = {2, 2, 1, 2, ::kvcache::abi::ElementType::F32, 0, {1.0F}};
  }

  /// Evaluates `body`, whose operands are %a, %b .. and whose result of type `type` is %r.
  RuntimeValue evaluate(const std::vector<Input> &inputs, const std::string &body,
                        const std::string &type) {
    // Index sets and counts cannot be states: they come and go as what a selection keeps, and as a
    // budget.
    auto isIndex = [](const std::string &type) { return type.rfind("!kvcache.index", 0) == 0; };
    std::string states, arguments;
    for (size_t i = 0; i < inputs.size(); ++i) {
      std::string name(1, static_cast<char>('a' + i));
      if (!isIndex(inputs[i].type)) {
        states += "kvcache.state @" + name + " : " + inputs[i].type + "\n";
      }
      arguments += (i == 0 ? "%" : ", %") + name + " = " +
                   (isIndex(inputs[i].type) ? "keep" : "@" + name) + " : " + inputs[i].type;
    }
    std::string result = isIndex(type) ? "keep" : type == "index" ? "budget" : "@r";
    if (result == "@r") {
      states += "kvcache.state @r : " + type + "\n";
    }
    std::string text = "kvcache.method @m {\n" + states + "kvcache.phase compress (" + arguments +
                       ") {\n" + body + "\nkvcache.next " + result + " = %r : " + type + "\n}\n}\n";
    module_ = parseSourceString<ModuleOp>(text, &context_);
    if (!module_) {
      ADD_FAILURE() << "malformed test:\n" << text;
      return Number();
    }
    PhaseOp phase =
        *(*module_->getOps<MethodOp>().begin()).getBody().front().getOps<PhaseOp>().begin();
    interpreter_ = std::make_unique<Interpreter>(geometry_);
    for (size_t i = 0; i < inputs.size(); ++i) {
      interpreter_->bind(phase.getBlock().getArgument(i), inputs[i].value);
    }
    for (const auto &[axis, positions] : positions_) {
      interpreter_->bindPositions(axis, positions);
    }
    Value wanted = phase.getNext().getValueFor(result);
    status_ = interpreter_->evaluate(phase.getBlock(), {wanted});
    return interpreter_->valueOf(wanted);
  }

  /// The same where the result is a tensor and nothing may fail.
  Tensor tensorFrom(const std::vector<Input> &inputs, const std::string &body,
                    const std::string &type) {
    RuntimeValue value = evaluate(inputs, body, type);
    EXPECT_TRUE(status_.isOk()) << status_.message();
    auto *tensor = std::get_if<std::shared_ptr<const TensorValue>>(&value);
    return tensor ? (*tensor)->tensor : Tensor();
  }

  /// A composed method of `text` in the fixture's geometry; null, with the diagnostic in `error_`,
  /// when it is refused.
  std::unique_ptr<rt::Execution> load(const std::string &text,
                                      llvm::StringMap<std::string> overrides = {}) {
    error_.clear();
    ScopedDiagnosticHandler collect(&context_, [&](Diagnostic &diagnostic) {
      error_ += diagnostic.str();
      return success();
    });
    module_ = parseSourceString<ModuleOp>(text, &context_);
    if (!module_) {
      return nullptr;
    }
    ComposeRequest request;
    request.overrides = std::move(overrides);
    for (MethodOp method : module_->getOps<MethodOp>()) {
      request.parts.push_back(method.getSymName().str());
    }
    FailureOr<MethodOp> method = composeMethod(*module_, request);
    if (failed(method)) {
      return nullptr;
    }
    auto execution = createReferenceExecution(*method, geometry_);
    return failed(execution) ? nullptr : std::move(*execution);
  }

  MLIRContext context_;
  rt::Geometry geometry_;
  std::map<std::string, std::vector<int32_t>> positions_;
  OwningOpRef<ModuleOp> module_;
  std::unique_ptr<Interpreter> interpreter_;
  Status status_;
  std::string error_;
};

inline void expectValues(const Tensor &found, const std::vector<double> &expected,
                         double tolerance = 1e-12) {
  ASSERT_EQ(found.values.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isfinite(expected[i])) {
      EXPECT_NEAR(found.values[i], expected[i], tolerance) << "at " << i;
    } else {
      EXPECT_EQ(found.values[i], expected[i]) << "at " << i;
    }
  }
}

/// The kept rows of each head of a selection [head?, instance].
inline std::vector<std::vector<int64_t>> rowsOf(const Tensor &index) {
  int64_t capacity = index.axes.back().extent;
  std::vector<std::vector<int64_t>> rows;
  size_t leads = index.ragged.empty() ? index.values.size() / std::max<int64_t>(1, capacity)
                                      : index.lengths.size();
  for (size_t lead = 0; lead < leads; ++lead) {
    int64_t count = index.ragged.empty() ? capacity : index.lengths[lead];
    rows.emplace_back();
    for (int64_t i = 0; i < count; ++i) {
      rows.back().push_back(static_cast<int64_t>(
          index.values[lead * static_cast<size_t>(capacity) + static_cast<size_t>(i)]));
    }
  }
  return rows;
}

} // namespace mlir::kvcache::reference
