// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What crosses between the programs that end a prompt (prompt_score, prompt_model, prompt_end), and
// those that calibrate: the buffer that holds a named result becomes a carried tensor, which later
// programs bind by its name.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

std::string Scheduler::carriedTensor(int buffer, StringRef name) {
  std::string tensor = (name_ + "." + name).str();
  return builder_.carry(buffer, tensor);
}

LogicalResult Scheduler::carry(NextOp next, StringRef name, Value value) {
  auto found = tensors_.find(value);
  bool model = builder_.seesAllLayers();
  if (found == tensors_.end() || found->second.buffer < 0) {
    return next.emitError() << "'" << name
                            << "' crosses to other phases: expected a tensor or an index set "
                            << "that the phase computes";
  }
  const TensorPlace &place = found->second;
  CarriedPlace carried;
  carried.elem = place.elem;
  carried.tensor = carriedTensor(place.buffer, name);
  bool inOrder =
      llvm::equal(place.axes, axesOf(value)) && (!model || place.axes.front().getName() == "layer");
  for (auto [axis, where] : llvm::zip_equal(place.axes, place.places)) {
    if (where.lengths < 0) {
      continue;
    }
    carried.lengthsTensor = carriedTensor(where.lengths, (name + ".lengths").str());
    carried.lengthDims = builder_.staticExtents(where.lengths);
    carried.lengthAxes = where.lengthAxes;
    inOrder &= !carried.lengthsTensor.empty() && axis == place.axes.back();
    if (model) {
      inOrder &= !carried.lengthAxes.empty() && carried.lengthAxes.front() == "layer";
      if (inOrder) {
        carried.lengthAxes.erase(carried.lengthAxes.begin());
        carried.lengthDims.erase(carried.lengthDims.begin());
      }
    }
  }
  if (carried.tensor.empty() || !inOrder) {
    return next.emitError()
           << "'" << name
           << "' crosses to other phases: expected a value that this phase computes, of "
           << "its own lengths if any, got " << value.getType();
  }
  context_.carried[name.str()] = carried;
  return success();
}

LogicalResult Scheduler::passRows(NextOp next, Value rows) {
  auto found = tensors_.find(rows);
  bool chosen = found != tensors_.end() && found->second.places.size() == 1 &&
                found->second.elem == ElementType::I32 && found->second.places[0].lengths >= 0;
  if (!chosen || !builder_.hand(found->second.buffer, proto::Buffer::PASSED) ||
      !builder_.hand(found->second.places[0].lengths, proto::Buffer::PASSED_ROWS)) {
    return next.emitError()
           << "'rows': expected a selection that the phase makes, of which no other "
              "result is made";
  }
  return success();
}

bool Scheduler::bindCarried(BlockArgument argument, StringRef role) {
  auto found = context_.carried.find(role.str());
  if (found == context_.carried.end() || !isa<AxisTensorType, IndexSetType>(argument.getType())) {
    return false;
  }
  const CarriedPlace &carried = found->second;
  Extent layers = Extent::of(context_.geometry.layers);
  bool model = builder_.seesAllLayers();
  TensorPlace place;
  place.elem = carried.elem;
  SmallVector<Extent> dims;
  int64_t number = 0;
  for (AxisAttr axis : axesOf(argument)) {
    Extent extent = model && dims.empty() ? layers : Extent::of(axis.getInteger().value_or(0));
    if (!axis.getInteger()) {
      extent = builder_.tensorExtent(carried.tensor, number);
    }
    number += model && dims.empty() ? 0 : 1;
    dims.push_back(extent);
    place.axes.push_back(axis);
    place.places.push_back({extent, -1, -1, {}});
  }
  place.buffer = builder_.roleBuffer(proto::Buffer::TENSOR, carried.tensor, carried.elem, dims);
  if (!carried.lengthsTensor.empty()) {
    SmallVector<Extent> lengthDims;
    AxisPlace &ragged = place.places.back();
    if (model) {
      lengthDims.push_back(layers);
      ragged.lengthAxes.push_back("layer");
    }
    for (int64_t extent : carried.lengthDims) {
      lengthDims.push_back(Extent::of(extent));
    }
    llvm::append_range(ragged.lengthAxes, carried.lengthAxes);
    ragged.lengths = builder_.roleBuffer(proto::Buffer::TENSOR, carried.lengthsTensor,
                                         ElementType::I32, lengthDims);
  }
  tensors_[argument] = place;
  return true;
}

} // namespace mlir::kvcache::cpu
