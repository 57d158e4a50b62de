// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles the ops of one kvcache.kernel, given as text, and runs them on plain vectors. Inputs are
// the arguments in0, in1, .. of the nest, outputs out0, out1, ..; axes without a number in their
// type are described by `axes`.

#pragma once

#include "dialect/KVCacheDialect.h"
#include "dialect/KernelOps.h"
#include "targets/cpu/NestEmitter.h"
#include "test/targets/cpu/CompiledKernels.h"

#include "dialect/Axes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Parser/Parser.h"

#include <map>
#include <memory>
#include <random>

namespace mlir::kvcache::cpu::test {

using Elem = ::kvcache::abi::ElementType;

/// All instruction sets this machine runs.
inline std::vector<Isa> runnableIsas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::V3, Isa::V4}) {
    if (canRun(isa)) {
      isas.push_back(isa);
    }
  }
  return isas;
}

class NestCase {
public:
  /// Types of the inputs (%a0, %a1, .. in the body) and results, and the kernel's block as text.
  NestCase(std::vector<std::string> inputs, std::vector<std::string> results,
           const std::string &body, std::map<std::string, NestAxis> axes = {},
           std::map<unsigned, std::vector<NestColumn>> columns = {},
           std::map<std::string, NestAxis> outputAxes = {}, const std::string &aliases = "") {
    DialectRegistry registry;
    registerKernelDialects(registry);
    registry.insert<KVCacheDialect>();
    context_ = std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
    context_->allowUnregisteredDialects();
    context_->loadAllAvailableDialects();
    source_ =
        parseSourceString<ModuleOp>(aliases + moduleText(inputs, results, body), context_.get());
    if (!source_) {
      ADD_FAILURE() << "the test's kernel does not parse";
      return;
    }
    source_->walk([&](KernelOp op) { kernel_ = op; });
    for (auto [key, axis] : axes) {
      outputAxes.try_emplace(key, axis);
    }
    describe(axes, outputAxes, columns);
  }

  /// Emits and compiles for every instruction set; false (and a test failure) when the emitter
  /// refuses.
  bool compile() {
    for (Isa isa : runnableIsas()) {
      OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context_.get()));
      FailureOr<NestResult> emitted = emitNest(*module, spec_);
      if (failed(emitted)) {
        ADD_FAILURE() << "the emitter refuses the kernel";
        return false;
      }
      result = *emitted;
      compiled_.push_back(std::make_unique<CompiledKernels>(*module, isa));
    }
    return true;
  }

  /// Runs the kernel as every instruction set has it and calls `check` after each; buffers and
  /// stores by argument name (a store gives `<name>.arena` and `<name>.view`), words by theirs.
  void run(const std::map<std::string, void *> &buffers,
           const std::map<std::string, int64_t> &words, llvm::function_ref<void()> check,
           int32_t expectedStatus = KVCACHE_KERNEL_OK) {
    int64_t tasks = 1;
    auto number = [&](const std::string &name) {
      auto word = words.find(name);
      return word != words.end() ? word->second : std::stoll(name);
    };
    for (const std::string &dim : result.kernel.grid) {
      tasks *= number(dim);
    }
    std::vector<int64_t> scalars;
    for (const std::string &word : result.kernel.words) {
      scalars.push_back(words.at(word));
    }
    std::vector<std::vector<int32_t>> scratch;
    for (const auto &compiled : compiled_) {
      std::vector<void *> args;
      for (const KernelArg &arg : result.kernel.args) {
        const NestScratch *own = nullptr;
        for (const NestScratch &candidate : result.scratch) {
          own = candidate.arg == arg.name ? &candidate : own;
        }
        if (own) {
          int64_t size = 1;
          for (const NestExtent &dim : own->dims) {
            size *= dim.word.empty() ? dim.constant : words.at(dim.word);
          }
          scratch.emplace_back(size, -1);
          args.push_back(scratch.back().data());
        } else if (arg.kind == KernelArg::Kind::Scalars) {
          args.push_back(scalars.data());
        } else if (arg.kind == KernelArg::Kind::Store) {
          args.push_back(buffers.at(arg.name + ".arena"));
          args.push_back(buffers.at(arg.name + ".view"));
        } else {
          args.push_back(buffers.at(arg.name));
        }
      }
      EXPECT_EQ(compiled->run("kernel", tasks, args), expectedStatus);
      check();
    }
  }

  NestResult result;
  NestKernel &spec() { return spec_; }
  MLIRContext *context() { return context_.get(); }

private:
  static std::string moduleText(const std::vector<std::string> &inputs,
                                const std::vector<std::string> &results, const std::string &body) {
    std::string text, arguments, types;
    for (size_t i = 0; i < inputs.size(); ++i) {
      text += "%o" + std::to_string(i) + " = \"test.source\"() : () -> " + inputs[i] + "\n";
      std::string number = std::to_string(i);
      arguments += (i ? ", %a" : "%a") + number + " = %o" + number + " : " + inputs[i];
    }
    for (size_t i = 0; i < results.size(); ++i) {
      types += (i ? ", " : "") + results[i];
    }
    std::string list = results.size() == 1 ? types : "(" + types + ")";
    std::string names = results.size() == 1 ? "%r" : "%r:" + std::to_string(results.size());
    return text + names + " = kvcache.kernel (" + arguments + ") -> " + list + " {\n" + body +
           "\n}\n";
  }

  static Elem elemOf(Type type) {
    if (isa<IndexSetType>(type)) {
      return Elem::I32;
    }
    auto tensor = cast<AxisTensorType>(type);
    Type elem = tensor.getElementType();
    return elem.isF16()         ? Elem::F16
           : elem.isBF16()      ? Elem::BF16
           : elem.isInteger(1)  ? Elem::U8
           : elem.isInteger(32) ? Elem::I32
           : elem.isInteger(64) ? Elem::I64
                                : Elem::F32;
  }

  void describe(const std::map<std::string, NestAxis> &axes,
                const std::map<std::string, NestAxis> &outputAxes,
                const std::map<unsigned, std::vector<NestColumn>> &columns) {
    spec_.name = "kernel";
    auto operandFor = [](Value value, std::string arg,
                         const std::map<std::string, NestAxis> &known) {
      NestOperand operand;
      operand.value = value;
      operand.arg = std::move(arg);
      if (isa<AxisTensorType, IndexSetType>(value.getType())) {
        operand.elem = elemOf(value.getType());
      }
      for (AxisAttr axis : axesOf(value)) {
        auto found = known.find(axis.getName());
        operand.axes.push_back(found != known.end() ? found->second : NestAxis());
      }
      return operand;
    };
    Block &block = kernel_.getBlock();
    for (auto [i, argument] : llvm::enumerate(block.getArguments())) {
      NestOperand operand = operandFor(argument, "in" + std::to_string(i), axes);
      if (auto found = columns.find(static_cast<unsigned>(i)); found != columns.end()) {
        operand.columns = found->second;
      }
      spec_.inputs.push_back(operand);
    }
    for (Operation &op : block.without_terminator()) {
      if (!op.hasTrait<OpTrait::ConstantLike>()) {
        spec_.ops.push_back(&op);
      }
    }
    for (auto [i, value] : llvm::enumerate(block.getTerminator()->getOperands())) {
      spec_.outputs.push_back(operandFor(value, "out" + std::to_string(i), outputAxes));
    }
  }

  std::unique_ptr<MLIRContext> context_;
  OwningOpRef<ModuleOp> source_;
  KernelOp kernel_;
  NestKernel spec_;
  std::vector<std::unique_ptr<CompiledKernels>> compiled_;
};

/// A ragged token axis: capacity in the word T, one length a head in the buffer `lengths`.
inline NestAxis raggedAxis(std::string capacity = "T", std::string lengths = "lengths") {
  NestAxis axis;
  axis.capacity = NestExtent::inWord(std::move(capacity));
  axis.lengths = std::move(lengths);
  axis.lengthAxes = {"head"};
  return axis;
}
/// An axis as long as a word says.
inline NestAxis wordAxis(std::string word) {
  NestAxis axis;
  axis.capacity = NestExtent::inWord(std::move(word));
  return axis;
}

inline std::vector<float> randomFloats(int64_t n, uint32_t seed = 7) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float &value : values) {
    value = normal(random);
  }
  return values;
}

} // namespace mlir::kvcache::cpu::test
