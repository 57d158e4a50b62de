// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attend and score.attention: attendHead of every KV head, query by query, and sums of its
// probabilities.

#include "targets/reference/Interpreter.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/ScoreOps.h"

#include <limits>

namespace mlir::kvcache::reference {

namespace {

using rt::reference::AttentionResult;
using rt::reference::HeadRows;

/// One attention: queries [head, group, query, channel] over the heads of a cache.
class Attention {
public:
  Attention(Interpreter &in, Value query, Value cache, bool causal, ArrayAttr stats,
            ValueRange statValues)
      : in_(in), query_(query), cache_(in.cache(cache)), causal_(causal), stats_(stats),
        statValues_(statValues) {}

  /// `output` may be null.
  Status run(Value output);

private:
  /// A statistic under construction: strides of the query side and of the entries, 0 where it sums.
  struct Statistic {
    StatAttr attr;
    Tensor sum;
    int64_t head = 0, group = 0, query = 0, token = 0;
    int64_t firstQuery = 0; ///< query rows before it do not count
  };

  Status prepareQueries();
  Status prepareStatistics();
  StatusOr<HeadRows> headRows(int64_t head) const;
  void count(int64_t head, int64_t query, const AttentionResult &result);

  Interpreter &in_;
  Value query_;
  const CacheTable &cache_;
  bool causal_;
  ArrayAttr stats_;
  ValueRange statValues_;
  Tensor queries_; ///< [head, group, query, channel]
  std::string queryAxis_;
  int64_t heads_ = 0, group_ = 0, rows_ = 0, width_ = 0;
  std::vector<int32_t> positions_;
  std::vector<Statistic> statistics_;
  Tensor lse_;
};

Status Attention::prepareQueries() {
  const Tensor &query = in_.tensor(query_);
  std::vector<std::string> names{"head", "", "", ""};
  for (AxisAttr axis : axesOf(query_)) {
    StringRef kind = axis.getKind();
    size_t place = kind == "head" ? 0 : kind == "group" ? 1 : kind == "query" ? 2 : 3;
    names[place] = axis.getName();
  }
  queryAxis_ = names[2];
  Tensor widened = query;
  if (names[1].empty()) { // one query head per KV head
    names[1] = "group";
    widened.axes.insert(widened.axes.begin(), Axis{"group", 1});
  }
  StatusOr<Tensor> ordered = inOrder(widened, names);
  KVCACHE_RETURN_IF_ERROR(ordered.status());
  queries_ = std::move(*ordered);
  heads_ = queries_.axes[0].extent;
  group_ = queries_.axes[1].extent;
  rows_ = queries_.axes[2].extent;
  width_ = queries_.axes[3].extent;
  positions_.assign(static_cast<size_t>(rows_), 0);
  if (causal_) {
    const std::vector<int32_t> *positions = in_.positions(queryAxis_);
    if (!positions || static_cast<int64_t>(positions->size()) != rows_) {
      return Status::badInput(
          "expected queries of known positions for causal attention, got axis '" + queryAxis_ +
          "'");
    }
    positions_ = *positions;
  }
  return Status::ok();
}

Status Attention::prepareStatistics() {
  lse_ = Tensor({queries_.axes[0], queries_.axes[1], queries_.axes[2]},
                -std::numeric_limits<double>::infinity());
  if (!stats_) {
    return Status::ok();
  }
  std::vector<int64_t> counts = cache_.rowCounts();
  for (StatAttr attr : stats_.getAsRange<StatAttr>()) {
    Statistic stat{attr, {}, 0, 0, 0, 0, 0};
    if (attr.getKind() == "sum") {
      std::vector<std::string> over = strings(attr.getOver());
      std::vector<Axis> axes;
      std::vector<int64_t *> strides;
      Axis token{cache_.schema->rowAxis, cache_.maxRows()};
      std::pair<Axis, int64_t *> all[] = {{queries_.axes[0], &stat.head},
                                          {queries_.axes[1], &stat.group},
                                          {queries_.axes[2], &stat.query},
                                          {token, &stat.token}};
      for (auto &[axis, stride] : all) {
        if (!llvm::is_contained(over, axis.name)) {
          axes.push_back(axis);
          strides.push_back(stride);
        }
      }
      stat.sum = Tensor(axes);
      int64_t stride = 1;
      for (size_t i = axes.size(); i-- > 0;) {
        *strides[i] = stride;
        stride *= axes[i].extent;
      }
      stat.sum.ragged = token.name;
      stat.sum.lengths = counts;
      if (stat.sum.find("head") < 0) {
        for (int64_t rows : counts) {
          if (rows != counts[0]) {
            return Status::badInput(
                "a sum over heads needs the same number of entries in every head");
          }
        }
        stat.sum.lengths = {counts[0]};
      }
      if (stat.sum.find(token.name) < 0) {
        stat.sum.ragged.clear();
        stat.sum.lengths.clear();
      }
      if (attr.getLast()) {
        stat.firstQuery = std::max<int64_t>(0, rows_ - cast<IntegerAttr>(attr.getLast()).getInt());
      }
    } else if (attr.getKind() != "lse") {
      return Status::badInput("unknown statistic '" + attr.getKind().str() + "'");
    }
    statistics_.push_back(std::move(stat));
  }
  return Status::ok();
}

/// The entries of one KV head: its own list, or its part of a list that all heads share.
StatusOr<HeadRows> Attention::headRows(int64_t head) const {
  const CacheSchema &schema = *cache_.schema;
  const RowList &list = cache_.lists[schema.lead.empty() ? 0 : static_cast<size_t>(head)];
  HeadRows rows;
  rows.rows = list.rows();
  auto read = [&](const char *name, std::vector<double> &into) {
    int c = schema.find(name);
    if (c < 0) {
      return Status::badInput("expected a column '" + std::string(name) + "' to attend over");
    }
    const ColumnSchema &column = schema.columns[static_cast<size_t>(c)];
    bool shared = !column.features.empty() && column.features[0].name == "head";
    int64_t width = shared ? column.layout.width / column.features[0].extent : column.layout.width;
    if (width != width_) {
      return Status::badInput("expected " + std::to_string(width_) + " values per row of column '" +
                              name + "', got " + std::to_string(width));
    }
    for (int64_t r = 0; r < rows.rows; ++r) {
      auto from = list.columns[static_cast<size_t>(c)].begin() + r * column.layout.width +
                  (shared ? head * width : 0);
      into.insert(into.end(), from, from + width);
    }
    return Status::ok();
  };
  KVCACHE_RETURN_IF_ERROR(read("k", rows.k));
  KVCACHE_RETURN_IF_ERROR(read("v", rows.v));
  int pos = schema.find("pos");
  if (causal_ && pos < 0) {
    return Status::badInput("expected a column 'pos' for causal attention");
  }
  if (pos >= 0) {
    for (double position : list.columns[static_cast<size_t>(pos)]) {
      rows.positions.push_back(static_cast<int32_t>(position));
    }
  }
  return rows;
}

void Attention::count(int64_t head, int64_t query, const AttentionResult &result) {
  int64_t entries = group_ == 0 ? 0 : static_cast<int64_t>(result.p.size()) / group_;
  for (Statistic &stat : statistics_) {
    if (stat.attr.getKind() != "sum" || query < stat.firstQuery) {
      continue;
    }
    for (int64_t g = 0; g < group_; ++g) {
      double *into =
          stat.sum.values.data() + head * stat.head + g * stat.group + query * stat.query;
      const double *p = result.p.data() + g * entries;
      for (int64_t t = 0; t < entries; ++t) {
        into[t * stat.token] += p[t];
      }
    }
  }
}

Status Attention::run(Value output) {
  KVCACHE_RETURN_IF_ERROR(prepareQueries());
  KVCACHE_RETURN_IF_ERROR(prepareStatistics());
  int v = cache_.schema->find("v");
  std::string valueAxis =
      v < 0 ? "" : cache_.schema->columns[static_cast<size_t>(v)].features.back().name;
  Tensor out({queries_.axes[0], queries_.axes[1], queries_.axes[2], Axis{valueAxis, width_}});
  for (int64_t head = 0; head < heads_; ++head) {
    StatusOr<HeadRows> rows = headRows(head);
    KVCACHE_RETURN_IF_ERROR(rows.status());
    for (int64_t query = 0; query < rows_; ++query) {
      std::vector<double> q;
      for (int64_t g = 0; g < group_; ++g) {
        auto from = queries_.values.begin() + ((head * group_ + g) * rows_ + query) * width_;
        q.insert(q.end(), from, from + width_);
      }
      AttentionResult result =
          attendHead(*rows, q, 1, group_, width_, {positions_[static_cast<size_t>(query)]}, causal_,
                     causal_ ? in_.geometry().slidingWindow : 0);
      count(head, query, result);
      for (int64_t g = 0; g < group_; ++g) {
        int64_t row = (head * group_ + g) * rows_ + query;
        lse_.values[static_cast<size_t>(row)] = result.lse[static_cast<size_t>(g)];
        std::copy(result.out.begin() + g * width_, result.out.begin() + (g + 1) * width_,
                  out.values.begin() + row * width_);
      }
    }
  }
  for (auto [value, stat] : llvm::zip_equal(statValues_, statistics_)) {
    KVCACHE_RETURN_IF_ERROR(in_.set(value, stat.attr.getKind() == "lse" ? lse_ : stat.sum));
  }
  if (output) {
    KVCACHE_RETURN_IF_ERROR(in_.set(output, std::move(out)));
  }
  in_.lastLse = std::move(lse_);
  return Status::ok();
}

} // namespace

void addAttentionFunctions(OpTable &table) {
  table[AttendOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    auto attend = cast<AttendOp>(op);
    Attention attention(in, attend.getQuery(), attend.getCache(), attend.getCausal(),
                        attend.getStatsAttr(), attend.getStatistics());
    return attention.run(attend.getOutput());
  };
  table[ScoreAttentionOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    auto score = cast<ScoreAttentionOp>(op);
    Attention attention(in, score.getQuery(), score.getCache(), score.getCausal(),
                        score.getStatsAttr(), score.getStatistics());
    return attention.run(Value());
  };
}

} // namespace mlir::kvcache::reference
