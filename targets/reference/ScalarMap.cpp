// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The loop of map: inputs are addressed with a stride per axis of the result, 0 where an input
// lacks the axis.

#include "targets/reference/ScalarMap.h"

#include "targets/reference/Scalars.h"

namespace mlir::kvcache::reference {

namespace {

struct MapInput {
  Type type;                      ///< of the block argument
  const Tensor *tensor = nullptr; ///< null for a scalar
  Number number;
  std::vector<int64_t> strides; ///< per axis of the result

  Number at(const std::vector<int64_t> &point) const {
    if (!tensor) {
      return number;
    }
    int64_t offset = 0;
    for (auto [stride, coordinate] : llvm::zip_equal(strides, point)) {
      offset += stride * coordinate;
    }
    return numberOf(type, tensor->values[static_cast<size_t>(offset)]);
  }
};

} // namespace

Status mapScalars(Block &body, OperandRange inputs, Interpreter &in, std::vector<Tensor> &results) {
  StatusOr<ScalarProgram> program = ScalarProgram::compile(body);
  KVCACHE_RETURN_IF_ERROR(program.status());
  SmallVector<MapInput> all;
  std::vector<const Tensor *> tensors;
  for (auto [value, argument] : llvm::zip_equal(inputs, body.getArguments())) {
    MapInput input{argument.getType(), nullptr, {}, {}};
    if (in.isNumber(value)) {
      input.number = in.number(value);
    } else {
      input.tensor = &in.tensor(value);
      tensors.push_back(input.tensor);
    }
    all.push_back(std::move(input));
  }
  Tensor shape = rt::reference::broadcastShape(tensors);
  KVCACHE_RETURN_IF_ERROR(checkBroadcast(tensors, shape));
  for (MapInput &input : all) {
    if (input.tensor) {
      input.strides = rt::reference::broadcastStrides(*input.tensor, shape.axes);
    }
  }
  Tensor like(shape.axes);
  like.inheritRagged(shape);
  results.assign(body.getTerminator()->getNumOperands(), like);
  SmallVector<Number> args(all.size()), yielded;
  Status status;
  forEachPoint(shape, [&](const std::vector<int64_t> &point) {
    if (!status.isOk()) {
      return;
    }
    for (size_t i = 0; i < all.size(); ++i) {
      args[i] = all[i].at(point);
    }
    status = program->run(args, yielded);
    if (status.isOk()) {
      int64_t offset = shape.offset(point);
      for (size_t i = 0; i < results.size(); ++i) {
        results[i].values[static_cast<size_t>(offset)] = yielded[i].asReal();
      }
    }
  });
  return status;
}

} // namespace mlir::kvcache::reference
