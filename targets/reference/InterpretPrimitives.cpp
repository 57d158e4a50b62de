// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// map, reduce, contract, pool, sort, scan, concat, blocks, iota, extent, eigh.

#include "targets/reference/Interpreter.h"
#include "targets/reference/ScalarMap.h"

#include "dialect/Axes.h"
#include "dialect/PrimitiveOps.h"
#include "runtime/reference/Primitives.h"

#include "llvm/ADT/StringSwitch.h"

#include <limits>
#include <optional>

namespace mlir::kvcache::reference {

using rt::reference::Pooling;
using rt::reference::Reduction;
using rt::reference::Scan;

static Status evaluateMap(MapOp op, Interpreter &in) {
  std::vector<Tensor> results;
  KVCACHE_RETURN_IF_ERROR(mapScalars(op.getScalarBody(), op.getInputs(), in, results));
  // A function of one merged tensor row by row is still about the same entries.
  std::shared_ptr<const Tensor> merged;
  for (Value input : op.getInputs()) {
    if (!in.isNumber(input) && in.tensorValue(input).merged) {
      merged = in.tensorValue(input).merged;
    }
  }
  for (auto [value, tensor] : llvm::zip_equal(op.getOutputs(), results)) {
    KVCACHE_RETURN_IF_ERROR(in.set(value, std::move(tensor), merged));
  }
  return Status::ok();
}

static std::optional<Reduction> reductionOf(StringRef fn) {
  return llvm::StringSwitch<std::optional<Reduction>>(fn)
      .Case("sum", Reduction::Sum)
      .Case("mean", Reduction::Mean)
      .Case("max", Reduction::Max)
      .Case("min", Reduction::Min)
      .Case("argmax", Reduction::ArgMax)
      .Case("count", Reduction::Count)
      .Default(std::nullopt);
}

static Status evaluateReduce(ReduceOp op, Interpreter &in) {
  const Tensor &x = in.tensor(op.getInput());
  std::vector<std::string> over = strings(op.getAxes());
  if (op.getFn() == "quantile") {
    double at = in.isNumber(op.getAt()) ? in.number(op.getAt()).asReal()
                                        : in.tensor(op.getAt()).values.at(0);
    StatusOr<Tensor> result = quantile(x, over.at(0), at);
    KVCACHE_RETURN_IF_ERROR(result.status());
    return in.set(op.getOutput(), *result);
  }
  std::optional<Reduction> fn = reductionOf(op.getFn());
  if (!fn) {
    return Status::badInput("unknown function '" + op.getFn().str() + "'");
  }
  StatusOr<Tensor> result = reduce(*fn, x, over);
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateContract(ContractOp op, Interpreter &in) {
  StatusOr<Tensor> result =
      contract(in.tensor(op.getLhs()), in.tensor(op.getRhs()), strings(op.getAxes()));
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluatePool(PoolOp op, Interpreter &in) {
  StringRef name = op.getFunction();
  if (name != "avg" && name != "max") {
    return Status::badInput("expected the function avg or max, got '" + name.str() + "'");
  }
  // A prefix that ends before the first column is empty.
  int64_t upTo = op.getUpto() ? std::max<int64_t>(0, in.integer(op.getUpto())) : -1;
  StatusOr<Tensor> result =
      pool(name == "avg" ? Pooling::Average : Pooling::Max, in.tensor(op.getInput()),
           op.getAxis().str(), in.integer(op.getSize()), upTo);
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

// ---- sort, scan, concat, blocks ----

static Status evaluateSort(SortOp op, Interpreter &in) {
  // Without blocks all positions are one.
  int64_t size = op.getSize() ? in.integer(op.getSize()) : std::numeric_limits<int64_t>::max();
  StatusOr<Tensor> result =
      sort(in.tensor(op.getInput()), op.getAxis().str(), op.getOrder() == "descending", size);
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateScan(ScanOp op, Interpreter &in) {
  StatusOr<Tensor> result = scan(op.getFn() == "max" ? Scan::Max : Scan::Sum,
                                 in.tensor(op.getInput()), op.getAxis().str(), op.getReverse(),
                                 hasFloatElements(cast<AxisTensorType>(op.getOutput().getType())));
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateConcat(ConcatOp op, Interpreter &in) {
  StringRef kind = StringRef(op.getAxis()).split('.').first;
  auto nameIn = [&](Value operand) { return findAxisOfKind(axesOf(operand), kind).getName(); };
  StatusOr<Tensor> result = concat(in.tensor(op.getLhs()), nameIn(op.getLhs()),
                                   in.tensor(op.getRhs()), nameIn(op.getRhs()), op.getAxis().str());
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateBlocks(BlocksOp op, Interpreter &in) {
  std::optional<Reduction> fn = reductionOf(op.getFn());
  if (!fn) {
    return Status::badInput("unknown function '" + op.getFn().str() + "'");
  }
  std::string axis = op.getAxis().str();
  unsigned place = *findAxisIndex(axesOf(op.getInput()), axis);
  StatusOr<Tensor> result = blocks(*fn, in.tensor(op.getInput()), axis, in.integer(op.getSize()),
                                   axisNames(op.getOutput().getType()).at(place));
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

/// Extent of an axis of a tensor, index set or cache: the longest where it is ragged.
static StatusOr<int64_t> extentOf(Interpreter &in, Value value, const std::string &axis) {
  if (isa<CacheType>(value.getType())) {
    const CacheTable &cache = in.cache(value);
    if (axis == cache.schema->rowAxis) {
      return cache.maxRows();
    }
    for (const Axis &lead : cache.schema->lead) {
      if (lead.name == axis) {
        return int64_t{lead.extent};
      }
    }
    for (const ColumnSchema &column : cache.schema->columns) {
      for (const Axis &feature : column.features) {
        if (feature.name == axis) {
          return int64_t{feature.extent};
        }
      }
    }
    return Status::badInput("the cache has no axis '" + axis + "'");
  }
  const Tensor &tensor = in.tensor(value);
  if (tensor.find(axis) < 0) {
    return Status::badInput("the value has no axis '" + axis + "'");
  }
  if (tensor.ragged == axis) {
    int64_t longest = 0;
    for (int64_t length : tensor.lengths) {
      longest = std::max(longest, length);
    }
    return longest;
  }
  return int64_t{tensor.extent(axis)};
}

static Status evaluateExtent(ExtentOp op, Interpreter &in) {
  StatusOr<int64_t> extent = extentOf(in, op.getOf(), op.getAxis().str());
  KVCACHE_RETURN_IF_ERROR(extent.status());
  in.set(op.getOutput(), Number::ofInteger(*extent));
  return Status::ok();
}

static Status evaluateIota(IotaOp op, Interpreter &in) {
  StatusOr<int64_t> extent = extentOf(in, op.getOf(), op.getAxis().str());
  KVCACHE_RETURN_IF_ERROR(extent.status());
  std::string axis = axisNames(op.getOutput().getType()).at(0);
  return in.set(op.getOutput(), rt::reference::iota(Tensor({Axis{axis, *extent}}), axis));
}

static Status evaluateEigh(EighOp op, Interpreter &in) {
  Tensor values, vectors;
  KVCACHE_RETURN_IF_ERROR(eigh(in.tensor(op.getMatrix()), values, vectors));
  // The second matrix axis numbers the eigenvectors: the names are those of the result types.
  std::vector<std::string> valueNames = axisNames(op.getEigenvalues().getType());
  std::vector<std::string> vectorNames = axisNames(op.getEigenvectors().getType());
  for (size_t i = 0; i < values.axes.size(); ++i) {
    values.axes[i].name = valueNames.at(i);
  }
  for (size_t i = 0; i < vectors.axes.size(); ++i) {
    vectors.axes[i].name = vectorNames.at(i);
  }
  KVCACHE_RETURN_IF_ERROR(in.set(op.getEigenvalues(), values));
  return in.set(op.getEigenvectors(), vectors);
}

void addPrimitiveFunctions(OpTable &table) {
  table[MapOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateMap(cast<MapOp>(op), in);
  };
  table[ReduceOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateReduce(cast<ReduceOp>(op), in);
  };
  table[ContractOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateContract(cast<ContractOp>(op), in);
  };
  table[PoolOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluatePool(cast<PoolOp>(op), in);
  };
  table[SortOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateSort(cast<SortOp>(op), in);
  };
  table[ScanOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateScan(cast<ScanOp>(op), in);
  };
  table[ConcatOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateConcat(cast<ConcatOp>(op), in);
  };
  table[BlocksOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateBlocks(cast<BlocksOp>(op), in);
  };
  table[ExtentOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateExtent(cast<ExtentOp>(op), in);
  };
  table[IotaOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateIota(cast<IotaOp>(op), in);
  };
  table[EighOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateEigh(cast<EighOp>(op), in);
  };
}

} // namespace mlir::kvcache::reference
