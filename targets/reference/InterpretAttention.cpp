// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attend and score.attention: attendHead of every KV head, query by query, and sums of its
// probabilities.

#include "targets/reference/AttentionClauses.h"
#include "targets/reference/Interpreter.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/ScoreOps.h"
#include "targets/reference/Scalars.h"

#include <functional>
#include <limits>
#include <optional>

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

  /// Reads the clauses `at` and `logit` of an op.
  void takeClauses(AttendOp op) { clauses_ = op; }
  /// `output` may be null.
  Status run(Value output);

  /// Called with the probabilities of query heads [first, first + groups) of a KV head for one
  /// query row.
  std::function<Status(int64_t head, int64_t first, int64_t groups, int64_t query,
                       const HeadRows &rows, const AttentionResult &result)>
      visit;
  /// Once run: head, group and query axes, and the query positions.
  ArrayRef<Axis> queryAxes() const { return ArrayRef(queries_.axes).take_front(3); }
  Status prepare() { return prepareQueries(); }
  int32_t position(int64_t query) const { return positions_[static_cast<size_t>(query)]; }
  const CacheTable &cache() const { return cache_; }

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
  StatusOr<HeadRows> headRows(int64_t head, int64_t group) const;
  Status prepareClauses();
  rt::reference::LogitRule ruleFor(int64_t head, int64_t first, int64_t query,
                                   ArrayRef<int64_t> entries, const HeadRows &rows);
  /// Attends with query heads [first, first + count) of a KV head over `rows`.
  Status attendRows(int64_t head, int64_t first, int64_t count, const HeadRows &rows, Tensor &out);
  void count(int64_t head, int64_t first, int64_t groups, int64_t query,
             const AttentionResult &result);

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
  AttendOp clauses_;
  AttentionInputs inputs_;              ///< of `logit`
  std::optional<ScalarProgram> logit_;  ///< none: logits stay
  std::optional<ChosenEntries> chosen_; ///< none: all entries
  int64_t valueWidth_ = 0;
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
  const std::vector<int32_t> *positions = in_.positions(queryAxis_);
  if (positions && static_cast<int64_t>(positions->size()) == rows_) {
    positions_ = *positions;
  } else if (causal_) {
    return Status::badInput("expected queries of known positions for causal attention, got axis '" +
                            queryAxis_ + "'");
  }
  return Status::ok();
}

Status Attention::prepareClauses() {
  AttentionAxes axes{queries_.axes[0].name, queries_.axes[1].name, queries_.axes[2].name,
                     cache_.schema->rowAxis};
  if (clauses_ && clauses_.getAt()) {
    chosen_.emplace(in_.tensor(clauses_.getAt()), axes);
  }
  if (clauses_ && clauses_.getLogitBody()) {
    StatusOr<ScalarProgram> program = ScalarProgram::compile(*clauses_.getLogitBody());
    KVCACHE_RETURN_IF_ERROR(program.status());
    logit_ = std::move(*program);
    inputs_ = AttentionInputs(in_, clauses_.getInputs(), axes);
  }
  return Status::ok();
}

/// What changes the logits of some query heads and one query row; row t of `rows` is entry
/// entries[t], or entry t without any.
rt::reference::LogitRule Attention::ruleFor(int64_t head, int64_t first, int64_t query,
                                            ArrayRef<int64_t> entries, const HeadRows &rows) {
  rt::reference::LogitRule rule;
  rule.headDim = in_.geometry().headDim;
  if (!logit_) {
    return rule;
  }
  rule.change = [this, head, first, query, entries, &rows](double z, int64_t g,
                                                           int64_t t) -> StatusOr<double> {
    auto at = static_cast<size_t>(t);
    Type position = IntegerType::get(clauses_.getContext(), 32);
    SmallVector<Number> values,
        args{numberOf(Float32Type::get(clauses_.getContext()), z),
             numberOf(position, this->position(query)),
             numberOf(position, rows.positions.empty() ? 0 : rows.positions[at])};
    inputs_.appendTo(args, {head, first + g, query, entries.empty() ? t : entries[at]});
    KVCACHE_RETURN_IF_ERROR(logit_->run(args, values));
    return values[0].asReal();
  };
  return rule;
}

/// Some rows of a head, in the order of `entries`.
static HeadRows rowsOf(const HeadRows &all, ArrayRef<int64_t> entries) {
  HeadRows some;
  some.rows = static_cast<int64_t>(entries.size());
  auto take = [&](const auto &from, auto &to) {
    auto width = all.rows == 0 ? 0 : static_cast<int64_t>(from.size()) / all.rows;
    for (int64_t entry : entries) {
      to.insert(to.end(), from.begin() + entry * width, from.begin() + (entry + 1) * width);
    }
  };
  take(all.k, some.k);
  take(all.v, some.v);
  take(all.positions, some.positions);
  return some;
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

/// The entries of one head: its own list, or its part of a list that all heads share.
StatusOr<HeadRows> Attention::headRows(int64_t head, int64_t group) const {
  const CacheSchema &schema = *cache_.schema;
  const RowList &list = cache_.lists[static_cast<size_t>(schema.listOf(head, group))];
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
    int64_t expected = StringRef(name) == "k" ? width_ : valueWidth_;
    if (width != expected) {
      return Status::badInput("expected " + std::to_string(expected) +
                              " values per row of column '" + name + "', got " +
                              std::to_string(width));
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

void Attention::count(int64_t head, int64_t first, int64_t groups, int64_t query,
                      const AttentionResult &result) {
  int64_t entries = groups == 0 ? 0 : static_cast<int64_t>(result.p.size()) / groups;
  for (Statistic &stat : statistics_) {
    if (stat.attr.getKind() != "sum" || query < stat.firstQuery) {
      continue;
    }
    for (int64_t g = 0; g < groups; ++g) {
      double *into =
          stat.sum.values.data() + head * stat.head + (first + g) * stat.group + query * stat.query;
      const double *p = result.p.data() + g * entries;
      for (int64_t t = 0; t < entries; ++t) {
        into[t * stat.token] += p[t];
      }
    }
  }
}

Status Attention::attendRows(int64_t head, int64_t first, int64_t groups, const HeadRows &rows,
                             Tensor &out) {
  for (int64_t query = 0; query < rows_; ++query) {
    std::vector<double> q;
    for (int64_t g = first; g < first + groups; ++g) {
      auto from = queries_.values.begin() + ((head * group_ + g) * rows_ + query) * width_;
      q.insert(q.end(), from, from + width_);
    }
    std::vector<int64_t> entries;
    HeadRows some;
    if (chosen_) {
      entries = chosen_->at({head, first, query, 0});
      some = rowsOf(rows, entries);
    }
    const HeadRows &read = chosen_ ? some : rows;
    StatusOr<AttentionResult> attended =
        attendHead(read, q, 1, groups, width_, {positions_[static_cast<size_t>(query)]}, causal_,
                   causal_ ? in_.geometry().slidingWindow : 0,
                   ruleFor(head, first, query, entries, read));
    KVCACHE_RETURN_IF_ERROR(attended.status());
    const AttentionResult &result = *attended;
    count(head, first, groups, query, result);
    if (visit) {
      KVCACHE_RETURN_IF_ERROR(visit(head, first, groups, query, rows, result));
    }
    for (int64_t g = 0; g < groups; ++g) {
      int64_t row = (head * group_ + first + g) * rows_ + query;
      lse_.values[static_cast<size_t>(row)] = result.lse[static_cast<size_t>(g)];
      int64_t width = static_cast<int64_t>(result.out.size()) / groups;
      std::copy(result.out.begin() + g * width, result.out.begin() + (g + 1) * width,
                out.values.begin() + row * valueWidth_);
    }
  }
  return Status::ok();
}

Status Attention::run(Value output) {
  KVCACHE_RETURN_IF_ERROR(prepareQueries());
  KVCACHE_RETURN_IF_ERROR(prepareStatistics());
  KVCACHE_RETURN_IF_ERROR(prepareClauses());
  int v = cache_.schema->find("v");
  Axis valueAxis = v < 0 ? Axis{"", width_}
                         : cache_.schema->columns[static_cast<size_t>(v)].features.back();
  valueWidth_ = valueAxis.extent;
  Tensor out({queries_.axes[0], queries_.axes[1], queries_.axes[2], valueAxis});
  bool ownLists = chosen_ && findAxisOfKind(axesOf(clauses_.getAt()), "group");
  int64_t together = cache_.schema->lead.size() > 1 || ownLists ? 1 : group_;
  for (int64_t head = 0; head < heads_; ++head) {
    for (int64_t first = 0; first < group_; first += together) {
      StatusOr<HeadRows> rows = headRows(head, first);
      KVCACHE_RETURN_IF_ERROR(rows.status());
      KVCACHE_RETURN_IF_ERROR(attendRows(head, first, together, *rows, out));
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

/// score.reduce: f of every visible probability, row by row, folded into the result.
class ScoreReduction {
public:
  ScoreReduction(ScoreReduceOp op, Interpreter &in)
      : op_(op), in_(in),
        attention_(in, op.getQuery(), op.getCache(), op.getCausal(), ArrayAttr(), ValueRange()) {}

  Status run();

private:
  Status visit(int64_t head, int64_t first, int64_t groups, int64_t query, const HeadRows &rows,
               const AttentionResult &result);
  Status fold(double p, const AttentionPoint &at, const HeadRows &rows);

  ScoreReduceOp op_;
  Interpreter &in_;
  Attention attention_;
  AttentionInputs inputs_;
  std::optional<ScalarProgram> program_;
  Tensor result_;
  AttentionPoint strides_{};
  int64_t firstQuery_ = 0;
};

Status ScoreReduction::fold(double p, const AttentionPoint &at, const HeadRows &rows) {
  Type position = IntegerType::get(op_.getContext(), 32);
  SmallVector<Number> args{
      numberOf(Float32Type::get(op_.getContext()), p),
      numberOf(position, attention_.position(at[2])),
      numberOf(position, rows.positions.empty() ? 0 : rows.positions[static_cast<size_t>(at[3])])};
  inputs_.appendTo(args, at);
  SmallVector<Number> values;
  KVCACHE_RETURN_IF_ERROR(program_->run(args, values));
  int64_t place = 0;
  for (size_t a = 0; a < at.size(); ++a) {
    place += strides_[a] * at[a];
  }
  double &into = result_.values[static_cast<size_t>(place)];
  into = op_.getFn() == "max" ? std::max(into, values[0].asReal()) : into + values[0].asReal();
  return Status::ok();
}

Status ScoreReduction::visit(int64_t head, int64_t first, int64_t groups, int64_t query,
                             const HeadRows &rows, const AttentionResult &result) {
  int64_t window = op_.getCausal() ? in_.geometry().slidingWindow : 0;
  for (int64_t t = 0; query >= firstQuery_ && t < rows.rows; ++t) {
    int64_t ahead = rows.positions.empty()
                        ? 0
                        : rows.positions[static_cast<size_t>(t)] - attention_.position(query);
    if ((op_.getCausal() && ahead > 0) || (window > 0 && -ahead >= window)) {
      continue;
    }
    double sum = 0;
    for (int64_t g = 0; g < groups; ++g) {
      double p = result.p[static_cast<size_t>(g * rows.rows + t)];
      sum += p;
      if (!op_.getMean()) {
        KVCACHE_RETURN_IF_ERROR(fold(p, {head, first + g, query, t}, rows));
      }
    }
    if (op_.getMean()) {
      KVCACHE_RETURN_IF_ERROR(fold(sum / static_cast<double>(groups), {head, 0, query, t}, rows));
    }
  }
  return Status::ok();
}

Status ScoreReduction::run() {
  KVCACHE_RETURN_IF_ERROR(attention_.prepare());
  StatusOr<ScalarProgram> program = ScalarProgram::compile(op_.getScalarBody());
  KVCACHE_RETURN_IF_ERROR(program.status());
  program_ = std::move(*program);
  const CacheTable &cache = attention_.cache();
  SmallVector<Axis> axes(attention_.queryAxes());
  axes.push_back(Axis{cache.schema->rowAxis, cache.maxRows()});
  AttentionAxes names{axes[0].name, axes[1].name, axes[2].name, axes[3].name};
  inputs_ = AttentionInputs(in_, op_.getInputs(), names);
  SmallVector<StringRef> gone = op_.getGoneAxes();
  std::vector<Axis> left;
  for (const Axis &axis : axes) {
    if (!llvm::is_contained(gone, StringRef(axis.name)) &&
        findAxis(axesOf(op_.getOutput()), axis.name)) {
      left.push_back(axis);
    }
  }
  result_ = Tensor(left, op_.getFn() == "max" ? -std::numeric_limits<double>::infinity() : 0);
  strides_ = attentionStrides(result_, names);
  result_.ragged = names[3];
  result_.lengths = cache.rowCounts();
  if (result_.find("head") < 0) {
    if (!llvm::all_equal(result_.lengths)) {
      return Status::badInput("a result without heads needs as many entries in every head");
    }
    result_.lengths = {result_.lengths[0]};
  }
  if (auto last = dyn_cast_or_null<IntegerAttr>(op_.getLast().value_or(Attribute()))) {
    firstQuery_ = std::max<int64_t>(0, axes[2].extent - last.getInt());
  }
  attention_.visit = [&](auto &&...args) { return visit(args...); };
  KVCACHE_RETURN_IF_ERROR(attention_.run(Value()));
  return in_.set(op_.getOutput(), result_);
}

} // namespace

void addAttentionFunctions(OpTable &table) {
  table[ScoreReduceOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return ScoreReduction(cast<ScoreReduceOp>(op), in).run();
  };
  table[AttendOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    auto attend = cast<AttendOp>(op);
    Attention attention(in, attend.getQuery(), attend.getCache(), attend.getCausal(),
                        attend.getStatsAttr(), attend.getStatistics());
    attention.takeClauses(attend);
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
