// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Artefacts of the reference target as plain values. Their shapes are those of the specialized
// types; in memory axes may stand in another order.

#include "targets/reference/Interpreter.h"
#include "targets/reference/ReferenceExecution.h"

#include "dialect/Axes.h"

namespace mlir::kvcache::reference {

static SmallVector<ArtefactOp> artefactOps(const ReferenceMethod &method) {
  MethodOp op = method.op();
  return llvm::to_vector(op.getBody().front().getOps<ArtefactOp>());
}

std::vector<Axis> axesOfArtefact(ArtefactOp artefact) {
  std::vector<Axis> axes;
  for (AxisAttr axis : axesOf(artefact.getType())) {
    axes.push_back({axis.getName(), axis.getInteger().value_or(0)});
  }
  return axes;
}

std::vector<rt::ArtefactShape> ReferenceExecution::artefactShapes() const {
  std::vector<rt::ArtefactShape> shapes;
  for (ArtefactOp artefact : artefactOps(*method_)) {
    rt::ArtefactShape shape{artefact.getSymName().str(), {}};
    for (const Axis &axis : axesOfArtefact(artefact)) {
      shape.dims.push_back(axis.extent);
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

std::vector<float> ReferenceExecution::artefactValues(size_t index, int64_t layer) const {
  ArtefactOp artefact = artefactOps(*method_)[index];
  const auto &known = method_->artefacts[static_cast<size_t>(layer)];
  auto found = known.find(artefact.getSymName().str());
  const auto *value = found == known.end()
                          ? nullptr
                          : std::get_if<std::shared_ptr<const TensorValue>>(&found->second);
  if (!value) {
    return {};
  }
  std::vector<std::string> names;
  for (const Axis &axis : axesOfArtefact(artefact)) {
    names.push_back(axis.name);
  }
  StatusOr<Tensor> ordered = inOrder((*value)->tensor, names);
  return ordered.isOk() ? std::vector<float>(ordered->values.begin(), ordered->values.end())
                        : std::vector<float>();
}

Status ReferenceExecution::setArtefactValues(size_t index, int64_t layer,
                                             const std::vector<float> &values) {
  SmallVector<ArtefactOp> all = artefactOps(*method_);
  if (index >= all.size() || layer < 0 || layer >= geometry().layers) {
    return Status::badInput("method '" + methodName() + "' has no artefact number " +
                            std::to_string(index) + " of layer " + std::to_string(layer));
  }
  Tensor tensor(axesOfArtefact(all[index]));
  if (tensor.values.size() != values.size()) {
    return Status::badInput("artefact '" + all[index].getSymName().str() + "', layer " +
                            std::to_string(layer) + ": expected " +
                            std::to_string(tensor.values.size()) + " values, got " +
                            std::to_string(values.size()));
  }
  std::copy(values.begin(), values.end(), tensor.values.begin());
  method_->artefacts[static_cast<size_t>(layer)][all[index].getSymName().str()] =
      valueOf(std::move(tensor));
  return Status::ok();
}

} // namespace mlir::kvcache::reference
