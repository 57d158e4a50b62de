// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reports from the storage formulas, rows and codes as `apply` writes them.

#include "targets/reference/ReferenceSequence.h"

#include "targets/reference/ExportCodes.h"
#include "targets/reference/Interpreter.h"

#include "dialect/CacheOps.h"

namespace mlir::kvcache::reference {

StatusOr<std::unique_ptr<ReferenceSequence>>
ReferenceSequence::create(std::shared_ptr<const ReferenceMethod> method,
                          const rt::SequenceOptions &options) {
  LayerState fresh;
  for (StateOp state : method->states()) {
    StatusOr<RuntimeValue> value = method->initialState(state);
    KVCACHE_RETURN_IF_ERROR(value.status());
    fresh.states[state.getSymName().str()] = *value;
  }
  std::unique_ptr<ReferenceSequence> sequence(new ReferenceSequence(std::move(method), options));
  sequence->layers.assign(static_cast<size_t>(sequence->method().geometry().layers), fresh);
  return sequence;
}

std::unique_ptr<rt::Sequence> ReferenceSequence::fork() const {
  return std::unique_ptr<rt::Sequence>(new ReferenceSequence(*this));
}

void ReferenceSequence::beginProbe(int64_t layer) {
  LayerState &state = layers[static_cast<size_t>(layer)];
  for (const auto &[name, value] : state.states) {
    if (const auto *table = std::get_if<std::shared_ptr<const CacheTable>>(&value)) {
      state.beforeProbe.emplace(name, (*table)->arrivals()); // the first call counts
    }
  }
}

void ReferenceSequence::forgetProbe() {
  for (LayerState &state : layers) {
    for (const auto &[name, arrivals] : state.beforeProbe) {
      CacheTable table = *std::get<std::shared_ptr<const CacheTable>>(state.states.at(name));
      table.forgetSince(arrivals);
      state.states[name] = std::make_shared<const CacheTable>(std::move(table));
    }
    state.beforeProbe.clear();
  }
}

void ReferenceSequence::closePrompt() {
  promptLength = length();
  for (LayerState &state : layers) {
    state.promptRows = state.length;
  }
}

/// The list of a table that head `head` reads, a KV head or (where each has rows of its own) a query
/// head.
static const RowList &listOf(const CacheTable &table, int64_t head) {
  return table.lists[table.schema->lead.empty() ? 0 : static_cast<size_t>(head)];
}

/// How many heads of a table can be asked for: KV heads, or query heads.
static int64_t headsOf(const CacheTable &table, int64_t kvHeads) {
  return table.schema->lead.empty() ? kvHeads : static_cast<int64_t>(table.lists.size());
}

rt::LayerReport ReferenceSequence::report(int64_t layer) const {
  rt::LayerReport report;
  double readBits = 0;
  for (const auto &[name, value] : layers[static_cast<size_t>(layer)].states) {
    const auto *table = std::get_if<std::shared_ptr<const CacheTable>>(&value);
    if (!table) {
      continue;
    }
    const CacheSchema &schema = *(*table)->schema;
    for (auto [c, column] : llvm::enumerate(schema.columns)) {
      double bits = 0;
      for (const RowList &list : (*table)->lists) {
        bits += column.layout.bitsOf(list.rows(), list.coded[c].rows);
      }
      report.bytesClaimed += bits / 8.0;
      for (const ::kvcache::abi::SegmentLayout &segment : column.layout.segments) {
        report.bytesOnePage += segment.pageBytes;
      }
      report.bitsK += column.name == "k" ? bits : 0.0;
      report.bitsV += column.name == "v" ? bits : 0.0;
      readBits += column.name == "k" || column.name == "v" || column.name == "pos" ? bits : 0.0;
    }
    int64_t heads = headsOf(**table, method_->geometry().kvHeads);
    for (int64_t head = 0; schema.find("k") >= 0 && head < heads; ++head) {
      report.keptRows.push_back(listOf(**table, head).rows());
    }
  }
  report.bytesMeasured = static_cast<int64_t>(report.bytesClaimed + 0.5);
  report.readBytesPerToken = static_cast<int64_t>(readBits / 8.0 + 0.5);
  return report;
}

StatusOr<std::shared_ptr<const CacheTable>> ReferenceSequence::readerView(int64_t layer) const {
  PhaseOp phase = method_->phase("query");
  AttendOp attend;
  phase.walk([&](AttendOp op) { attend = attend ? attend : op; });
  if (!attend) {
    return Status::badInput("the query phase of method '" + method_->name() +
                            "' attends over no cache");
  }
  const LayerState &state = layers[static_cast<size_t>(layer)];
  rt::LayerRows none;
  PhaseEvent event;
  event.layer = layer;
  event.budget = budget();
  event.length = state.length;
  event.rows = &none;
  event.requests = &requests();
  event.promptLength = knownPromptLength();
  event.step = state.promptRows < 0 ? 0 : event.length - state.promptRows;
  event.states = &state.states;
  Interpreter in(method_->geometry());
  KVCACHE_RETURN_IF_ERROR(bindArguments(*method_, phase, event, in));
  KVCACHE_RETURN_IF_ERROR(in.evaluate(phase.getBlock(), {attend.getCache()}));
  return std::get<std::shared_ptr<const CacheTable>>(in.valueOf(attend.getCache()));
}

/// One side of a head: its rows, and its codes when they are codes.
static Status readSide(const CacheTable &table, StringRef name, int64_t head, int64_t width,
                       std::vector<float> &rows, bool &isCoded, rt::CodedRows &coded) {
  int c = table.schema->find(name);
  if (c < 0) {
    return Status::badInput("the cache has no column '" + name.str() + "'");
  }
  const ColumnSchema &column = table.schema->columns[static_cast<size_t>(c)];
  const RowList &list = listOf(table, head);
  const std::vector<double> &values = list.columns[static_cast<size_t>(c)];
  int64_t first = column.layout.width > width ? head * width : 0; // rows that all heads share
  for (int64_t row = 0; row < list.rows(); ++row) {
    auto from = values.begin() + row * column.layout.width + first;
    rows.insert(rows.end(), from, from + width);
  }
  isCoded = column.layout.affine();
  if (isCoded) {
    coded = exportCodes(column.layout, list.coded[static_cast<size_t>(c)], first, width);
  }
  return Status::ok();
}

StatusOr<rt::HeadContents> ReferenceSequence::contents(int64_t layer, int64_t head) const {
  const rt::Geometry &geometry = method_->geometry();
  StatusOr<std::shared_ptr<const CacheTable>> view =
      layer < 0 || layer >= geometry.layers
          ? StatusOr<std::shared_ptr<const CacheTable>>(Status::badInput(
                "expected a layer below " + std::to_string(geometry.layers) + ", got " +
                std::to_string(layer)))
          : readerView(layer);
  KVCACHE_RETURN_IF_ERROR(view.status());
  const CacheTable &table = **view;
  int64_t heads = headsOf(table, geometry.kvHeads);
  if (head < 0 || head >= heads) {
    return Status::badInput("expected a head below " + std::to_string(heads) + ", got " +
                            std::to_string(head));
  }
  const RowList &list = listOf(table, head);
  rt::HeadContents contents;
  contents.source = list.source;
  const std::vector<int64_t> &entered = layers[static_cast<size_t>(layer)].entered;
  auto seen = static_cast<int64_t>(entered.size());
  for (int32_t &source : contents.source) {
    if (method_->thinsPrompt()) {
      source = static_cast<int32_t>(source < seen ? entered[static_cast<size_t>(source)]
                                                  : layers.front().promptRows + source - seen);
    }
  }
  KVCACHE_RETURN_IF_ERROR(
      readSide(table, "k", head, geometry.headDim, contents.k, contents.kCoded, contents.codedK));
  KVCACHE_RETURN_IF_ERROR(
      readSide(table, "v", head, geometry.headDim, contents.v, contents.vCoded, contents.codedV));
  int pos = table.schema->find("pos");
  if (!table.keyPositions.empty()) {
    contents.positions =
        table.keyPositions[table.schema->lead.empty() ? 0 : static_cast<size_t>(head)];
  } else if (pos >= 0) {
    for (double position : list.columns[static_cast<size_t>(pos)]) {
      contents.positions.push_back(static_cast<int32_t>(position));
    }
  }
  if (const Tensor *scores = layers[static_cast<size_t>(layer)].scores.get()) {
    int headAxis = scores->find("head"), groupAxis = scores->find("group");
    forEachPoint(*scores, [&](const std::vector<int64_t> &point) {
      int64_t of = headAxis < 0 ? head : point[static_cast<size_t>(headAxis)];
      if (groupAxis >= 0) {
        of = of * scores->axes[static_cast<size_t>(groupAxis)].extent +
             point[static_cast<size_t>(groupAxis)];
      }
      if (of == head) {
        contents.scores.push_back(static_cast<float>(scores->at(point)));
      }
    });
  }
  // A column `merged` counts the entries folded into each row besides the row itself.
  int merged = table.schema->find("merged");
  if (merged >= 0 || method_->merges()) {
    for (double others : merged >= 0 ? list.columns[static_cast<size_t>(merged)] : list.merged) {
      contents.counts.push_back(static_cast<float>(1.0 + others));
    }
  }
  return contents;
}

} // namespace mlir::kvcache::reference
