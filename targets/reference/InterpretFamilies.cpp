// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// score.norm, score.nearest, merge.into, project.hadamard, project.lowrank, quantize.encode.

#include "targets/reference/Interpreter.h"

#include "dialect/Axes.h"
#include "dialect/MergeOps.h"
#include "dialect/ProjectOps.h"
#include "dialect/QuantizeOps.h"
#include "dialect/ScoreOps.h"
#include "runtime/reference/Primitives.h"

namespace mlir::kvcache::reference {

static Status evaluateNorm(ScoreNormOp op, Interpreter &in) {
  StatusOr<Tensor> result = rt::reference::norm(in.tensor(op.getInput()), strings(op.getAxes()));
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateNearest(ScoreNearestOp op, Interpreter &in) {
  if (op.getMetric() != "cosine" && op.getMetric() != "l2") {
    return Status::badInput("expected the metric cosine or l2, got '" + op.getMetric().str() + "'");
  }
  // The vectors run over the axis that neither the results nor the candidates' numbering keep.
  std::vector<std::string> kept = axisNames(op.getBest().getType());
  std::string channel;
  for (const std::string &name : axisNames(op.getInput().getType())) {
    channel = llvm::is_contained(kept, name) ? channel : name;
  }
  Tensor best, index;
  KVCACHE_RETURN_IF_ERROR(nearest(op.getMetric() == "cosine" ? rt::reference::Metric::Cosine
                                                             : rt::reference::Metric::L2,
                                  in.tensor(op.getInput()), in.tensor(op.getCandidates()),
                                  op.getAxis().str(), channel, best, index));
  KVCACHE_RETURN_IF_ERROR(in.set(op.getBest(), std::move(best)));
  return in.set(op.getAt(), std::move(index));
}

static Status evaluateMergeInto(MergeIntoOp op, Interpreter &in) {
  const Tensor &destination = in.tensor(op.getDestination());
  const Tensor &weight = in.tensor(op.getWeight());
  const Tensor &at = in.tensor(op.getAt());
  std::string domain = cast<IndexSetType>(op.getAt().getType()).getDomain().str();
  StatusOr<Tensor> result = mergeInto(in.tensor(op.getSource()), destination, at, weight, domain);
  KVCACHE_RETURN_IF_ERROR(result.status());
  Tensor used = weight;
  for (double &value : used.values) {
    value = value > 0.0 ? 1.0 : 0.0;
  }
  std::vector<Axis> axes;
  for (const Axis &axis : destination.axes) {
    if (axis.name == domain || weight.find(axis.name) >= 0) {
      axes.push_back(axis);
    }
  }
  StatusOr<Tensor> merged = scatter(used, Tensor(axes), at, domain, /*add=*/true);
  KVCACHE_RETURN_IF_ERROR(merged.status());
  return in.set(op.getOutput(), *result, std::make_shared<const Tensor>(std::move(*merged)));
}

static Status evaluateHadamard(ProjectHadamardOp op, Interpreter &in) {
  StatusOr<Tensor> result = hadamard(in.tensor(op.getInput()), op.getAxis().str());
  KVCACHE_RETURN_IF_ERROR(result.status());
  // The transform of a basis is another basis: the result type names it.
  result->axes.back().name = axisNames(op.getOutput().getType()).back();
  return in.set(op.getOutput(), *result);
}

static Status evaluateLowrank(ProjectLowrankOp op, Interpreter &in) {
  const Tensor &x = in.tensor(op.getInput());
  std::vector<std::string> kept = axisNames(op.getOutput().getType());
  std::string channel, rank;
  for (const Axis &axis : in.tensor(op.getBasis()).axes) {
    rank = x.find(axis.name) < 0 ? axis.name : rank;
    channel = llvm::is_contained(kept, axis.name) ? channel : axis.name;
  }
  StatusOr<Tensor> result =
      lowrank(x, in.tensor(op.getBasis()), in.tensor(op.getMean()), channel, rank);
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

/// The value of coded rows is what a reader of them sees.
static Status evaluateEncode(QuantizeEncodeOp op, Interpreter &in) {
  auto type = cast<AxisTensorType>(op.getOutput().getType());
  if (!type.isCoded()) {
    return Status::badInput("expected a coded result, got plain elements");
  }
  StatusOr<Tensor> x = inOrder(in.tensor(op.getInput()), axisNames(type));
  KVCACHE_RETURN_IF_ERROR(x.status());
  size_t rowAxis = 0;
  for (auto [i, axis] : llvm::enumerate(type.getAxes())) {
    rowAxis = axis.getKind() == "token" || axis.getKind() == "query" ? i : rowAxis;
  }
  int64_t width = 1, lists = 1, rows = x->axes[rowAxis].extent;
  for (size_t i = 0; i < x->axes.size(); ++i) {
    (i < rowAxis ? lists : width) *= i == rowAxis ? 1 : x->axes[i].extent;
  }
  std::string error;
  auto layout = ::kvcache::abi::computeColumnLayout(*type.getStorage().getTerm(), width,
                                                    in.geometry().act, error);
  if (!layout) {
    return Status::badInput(error);
  }
  for (int64_t l = 0; l < lists; ++l) {
    bool ragged = x->ragged == x->axes[rowAxis].name;
    int64_t count = ragged ? x->lengths[x->lengths.size() == 1 ? 0 : static_cast<size_t>(l)] : rows;
    auto begin = x->values.begin() + l * rows * width;
    auto block = rt::reference::encodeRows(
        *layout, std::vector<double>(begin, begin + count * width), count, nullptr);
    KVCACHE_RETURN_IF_ERROR(block.status());
    std::copy(block->decoded.begin(), block->decoded.end(), begin);
  }
  return in.set(op.getOutput(), std::move(*x));
}

void addFamilyFunctions(OpTable &table) {
  table[ScoreNormOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateNorm(cast<ScoreNormOp>(op), in);
  };
  table[ScoreNearestOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateNearest(cast<ScoreNearestOp>(op), in);
  };
  table[MergeIntoOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateMergeInto(cast<MergeIntoOp>(op), in);
  };
  table[ProjectHadamardOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateHadamard(cast<ProjectHadamardOp>(op), in);
  };
  table[ProjectLowrankOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateLowrank(cast<ProjectLowrankOp>(op), in);
  };
  table[QuantizeEncodeOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateEncode(cast<QuantizeEncodeOp>(op), in);
  };
}

} // namespace mlir::kvcache::reference
