// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// select.topk, select.where, select.complement, select.union, select.expand, select.fit,
// select.alloc.

#include "targets/reference/Interpreter.h"
#include "targets/reference/ScalarMap.h"
#include "targets/reference/Selection.h"

#include "dialect/SelectOps.h"
#include "runtime/reference/Primitives.h"

#include <algorithm>
#include <limits>

namespace mlir::kvcache::reference {

using rt::reference::Forced;
using rt::reference::Prefix;

std::vector<int64_t> countsOf(Interpreter &in, Value count, const Tensor &scores,
                              const std::string &along) {
  Tensor leads;
  for (const Axis &axis : scores.axes) {
    if (axis.name != along) {
      leads.axes.push_back(axis);
    }
  }
  std::vector<int64_t> counts;
  forEachPoint(leads, [&](const std::vector<int64_t> &point) {
    int64_t value = in.isNumber(count)
                        ? in.integer(count)
                        : static_cast<int64_t>(broadcastAt(in.tensor(count), leads.axes, point));
    counts.push_back(std::max<int64_t>(0, value));
  });
  return counts;
}

Tensor trimmed(const Tensor &selection) {
  int64_t longest = 0, capacity = selection.axes.back().extent;
  bool uniform = true;
  for (int64_t length : selection.lengths) {
    longest = std::max(longest, length);
    uniform = uniform && length == selection.lengths[0];
  }
  Tensor result = selection;
  result.axes.back().extent = longest;
  result.values.clear();
  for (size_t lead = 0; lead < selection.lengths.size(); ++lead) {
    auto from = selection.values.begin() + static_cast<int64_t>(lead) * capacity;
    result.values.insert(result.values.end(), from, from + longest);
  }
  size_t first = selection.axes[0].name == "layer" ? 1 : 0, leads = selection.axes.size() - 1 - first;
  bool perHead = leads == 0 || (selection.axes[first].name == "head" &&
                                (leads == 1 || (leads == 2 && selection.axes[first + 1].name == "group")));
  if (!perHead && uniform) {
    result.ragged.clear();
    result.lengths.clear();
  }
  return result;
}

/// The scores as a selection ranks them: forced rows +inf.
static Tensor rankedScores(const Tensor &scores, const std::string &along,
                           const std::vector<int64_t> &counts, Forced forced) {
  Tensor ranked = scores;
  size_t axis = static_cast<size_t>(scores.find(along));
  forEachPoint(scores, [&](const std::vector<int64_t> &point) {
    int64_t lead = 0;
    for (size_t i = 0; i < point.size(); ++i) {
      lead = i == axis ? lead : lead * scores.axes[i].extent + point[i];
    }
    int64_t length = scores.lengthAt(axis, point);
    int64_t kept = std::min(counts[static_cast<size_t>(lead)], length);
    int64_t first = std::min(forced.first, kept), last = std::min(forced.last, kept - first);
    if (point[axis] < first || point[axis] >= length - last) {
      ranked.at(point) = std::numeric_limits<double>::infinity();
    }
  });
  return ranked;
}

static Status evaluateTopk(SelectTopkOp op, Interpreter &in) {
  const Tensor &scores = in.tensor(op.getScores());
  std::string along = cast<IndexSetType>(op.getOutput().getType()).getDomain().str();
  std::vector<int64_t> counts = countsOf(in, op.getBudget(), scores, along);
  Forced forced;
  forced.first = op.getFirst() ? std::max<int64_t>(0, in.integer(op.getFirst())) : 0;
  forced.last = op.getLast() ? std::max<int64_t>(0, in.integer(op.getLast())) : 0;
  forced.allThatFit = true;
  StatusOr<Tensor> kept =
      topk(scores, along, counts, forced, axisNames(op.getOutput().getType()).back());
  KVCACHE_RETURN_IF_ERROR(kept.status());
  in.ranked = rankedScores(scores, along, counts, forced);
  return in.set(op.getOutput(), trimmed(*kept));
}

static Status evaluateWhere(SelectWhereOp op, Interpreter &in) {
  std::vector<Tensor> flags;
  KVCACHE_RETURN_IF_ERROR(mapScalars(op.getScalarBody(), op.getInputs(), in, flags));
  StatusOr<Tensor> kept =
      where(flags.at(0), op.getAxis().str(), axisNames(op.getOutput().getType()).back());
  KVCACHE_RETURN_IF_ERROR(kept.status());
  return in.set(op.getOutput(), trimmed(*kept));
}

/// How many positions the domain of a selection has in its operand, for each row head (or one
/// number), and the largest of them.
static std::vector<int64_t> rowsOf(Interpreter &in, Value of, Type selection, int64_t &capacity) {
  if (isa<CacheType>(of.getType())) {
    const CacheTable &cache = in.cache(of);
    capacity = cache.maxRows();
    return cache.rowCounts();
  }
  const Tensor &tensor = in.tensor(of);
  std::string domain = cast<IndexSetType>(selection).getDomain().str();
  capacity = tensor.extent(domain);
  return tensor.ragged == domain ? tensor.lengths : std::vector<int64_t>{capacity};
}

static Status evaluateComplement(SelectComplementOp op, Interpreter &in) {
  int64_t capacity = 0;
  std::vector<int64_t> lengths = rowsOf(in, op.getOf(), op.getOutput().getType(), capacity);
  StatusOr<Tensor> rest = complement(in.tensor(op.getKept()), capacity, lengths,
                                     axisNames(op.getOutput().getType()).back());
  KVCACHE_RETURN_IF_ERROR(rest.status());
  return in.set(op.getOutput(), trimmed(*rest));
}

static Status evaluateUnion(SelectUnionOp op, Interpreter &in) {
  Tensor united = unite(in.tensor(op.getLhs()), in.tensor(op.getRhs()),
                        axisNames(op.getOutput().getType()).back());
  return in.set(op.getOutput(), trimmed(united));
}

/// The length of the row head, a KV head or a query head, that a point lies in.
static int64_t headLength(const std::vector<int64_t> &lengths, const std::vector<Axis> &axes,
                          const std::vector<int64_t> &point) {
  size_t heads = 0, at = 0;
  for (const char *name : {"head", "group"}) {
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i].name == name && heads < lengths.size()) {
        auto extent = static_cast<size_t>(axes[i].extent);
        heads = heads == 0 ? extent : heads * extent;
        at = at * extent + static_cast<size_t>(point[i]);
      }
    }
  }
  return lengths[lengths.size() == 1 ? 0 : at];
}

static Status evaluateExpand(SelectExpandOp op, Interpreter &in) {
  int64_t capacity = 0;
  std::vector<int64_t> lengths = rowsOf(in, op.getOf(), op.getOutput().getType(), capacity);
  // A length for each list of blocks: that of its row head.
  const Tensor &blocks = in.tensor(op.getBlocks());
  std::vector<Axis> lead(blocks.axes.begin(), blocks.axes.end() - 1);
  std::vector<int64_t> each;
  forEachPoint(Tensor(lead), [&](const std::vector<int64_t> &point) {
    each.push_back(headLength(lengths, lead, point));
  });
  StatusOr<Tensor> members = expand(blocks, in.integer(op.getSize()), each,
                                    axisNames(op.getOutput().getType()).back());
  KVCACHE_RETURN_IF_ERROR(members.status());
  return in.set(op.getOutput(), trimmed(*members));
}

/// Counts of a global top-k: of all scores, or of a prefix for each point of the axes of `upto`.
static StatusOr<Tensor> evaluateGlobalTopk(SelectAllocOp op, Interpreter &in) {
  const Tensor &scores = in.tensor(op.getScores());
  std::string along = scores.axes.back().name;
  Tensor each;
  if (op.getUpto() && !in.isNumber(op.getUpto())) {
    each.axes = in.tensor(op.getUpto()).axes;
  }
  std::vector<int64_t> totals = countsOf(in, op.getTotal(), each, {});
  if (!op.getUpto()) {
    return globalTopkCounts(scores, along, totals.at(0), Prefix());
  }
  std::vector<int64_t> limits = countsOf(in, op.getUpto(), each, {});
  std::vector<Axis> axes(scores.axes.begin(), scores.axes.end() - 1);
  axes.insert(axes.end(), each.axes.begin(), each.axes.end());
  Tensor counts(axes);
  for (size_t i = 0; i < limits.size(); ++i) {
    StatusOr<Tensor> part =
        globalTopkCounts(scores, along, totals[i], Prefix{op.getAlong()->str(), limits[i]});
    KVCACHE_RETURN_IF_ERROR(part.status());
    for (size_t point = 0; point < part->values.size(); ++point) {
      counts.values[point * limits.size() + i] = part->values[point];
    }
  }
  return counts;
}

static Status evaluateFit(SelectFitOp op, Interpreter &in) {
  const Tensor &scores = in.tensor(op.getScores());
  std::string along = cast<IndexSetType>(op.getOutput().getType()).getDomain().str();
  StatusOr<Tensor> taken = fit(scores, along, countsOf(in, op.getSizes(), scores, {}),
                               countsOf(in, op.getTotal(), scores, along),
                               axisNames(op.getOutput().getType()).back());
  KVCACHE_RETURN_IF_ERROR(taken.status());
  return in.set(op.getOutput(), trimmed(*taken));
}

static Status evaluateAlloc(SelectAllocOp op, Interpreter &in) {
  const Tensor &scores = in.tensor(op.getScores());
  StatusOr<Tensor> counts = Status::badInput("unknown rule '" + op.getRule().str() + "'");
  if (op.getRule() == "global_topk") {
    counts = evaluateGlobalTopk(op, in);
  } else if (op.getRule() == "proportional") {
    auto limits = [&](Value limit) {
      return limit ? countsOf(in, limit, scores, {}) : std::vector<int64_t>{};
    };
    counts = proportionalCounts(scores, countsOf(in, op.getTotal(), Tensor(), {}).at(0),
                                limits(op.getFloor()), limits(op.getCap()));
  }
  KVCACHE_RETURN_IF_ERROR(counts.status());
  return in.set(op.getOutput(), *counts);
}

void addSelectFunctions(OpTable &table) {
  table[SelectTopkOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateTopk(cast<SelectTopkOp>(op), in);
  };
  table[SelectWhereOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateWhere(cast<SelectWhereOp>(op), in);
  };
  table[SelectComplementOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateComplement(cast<SelectComplementOp>(op), in);
  };
  table[SelectUnionOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateUnion(cast<SelectUnionOp>(op), in);
  };
  table[SelectExpandOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateExpand(cast<SelectExpandOp>(op), in);
  };
  table[SelectFitOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateFit(cast<SelectFitOp>(op), in);
  };
  table[SelectAllocOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateAlloc(cast<SelectAllocOp>(op), in);
  };
}

} // namespace mlir::kvcache::reference
