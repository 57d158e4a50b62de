// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A kernel of scalar ops: one task that reads words, computes and writes words back. Integers are
// stored as they are, floats as their bits in the low bytes.

#include "targets/cpu/NestBody.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

/// A scalar as the 64 bits of a word.
static Value asWord(KernelBuilder &k, Value value) {
  Type type = value.getType();
  if (type.isF64()) {
    return k.bitcast(value, k.builder().getI64Type());
  }
  if (type.isF32()) {
    return arith::ExtUIOp::create(k.builder(), k.loc(), k.builder().getI64Type(),
                                  k.bitcast(value, k.i32Type()));
  }
  if (type.isInteger(1)) {
    return arith::ExtUIOp::create(k.builder(), k.loc(), k.builder().getI64Type(), value);
  }
  return k.toI64(value);
}

FailureOr<NestResult> mlir::kvcache::cpu::emitScalars(ModuleOp module, const NestKernel &kernel) {
  NestResult result;
  result.kernel.name = kernel.name;
  for (const std::vector<NestOperand> *operands : {&kernel.inputs, &kernel.outputs}) {
    for (const NestOperand &operand : *operands) {
      if (!llvm::is_contained(result.kernel.words, operand.arg)) {
        result.kernel.words.push_back(operand.arg);
      }
    }
  }
  result.kernel.args.push_back(KernelArg::scalars("scalars"));
  for (Operation *op : kernel.ops) {
    result.ops.push_back(op->getName().getStringRef().str());
  }
  KernelBuilder k(module, kernel.name, result.kernel.args);
  auto function = cast<func::FuncOp>(module.getBody()->back());
  NestBody body(k, kernel);
  body.begin(result.kernel.words);
  SmallVector<Value> words;
  for (const NestOperand &output : kernel.outputs) {
    words.push_back(asWord(k, body.scalar(output.value)));
  }
  if (body.failed()) {
    function.erase();
    return failure();
  }
  for (auto [output, word] : llvm::zip(kernel.outputs, words)) {
    auto place = llvm::find(result.kernel.words, output.arg) - result.kernel.words.begin();
    k.store(word, k.arg("scalars"), k.index(place));
  }
  k.finish();
  return result;
}
