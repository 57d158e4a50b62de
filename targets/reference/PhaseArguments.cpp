// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Roles to values. Rows come as f32 [rows, heads, D] after RoPE; the type of an argument says which
// axes it has and, by its channel axis, whether it is wanted before RoPE.

#include "targets/reference/PhaseArguments.h"

#include "dialect/Axes.h"
#include "dialect/MethodSymbols.h"
#include "targets/reference/LayerStack.h"

namespace mlir::kvcache::reference {

namespace {

/// Rows of activations as a tensor of a type.
struct Activations {
  const char *what;            ///< "queries", for messages
  const float *data = nullptr; ///< [rows, heads, D], after RoPE
  int64_t rows = 0, heads = 0; ///< heads: Hkv, or Hq = Hkv * G
  const int32_t *positions = nullptr;
  const float *beforeRope = nullptr; ///< the same before RoPE, where the caller has it
};

class Binder {
public:
  Binder(const ReferenceMethod &method, const PhaseEvent &event, Interpreter &in)
      : method_(method), event_(event), in_(in) {}

  Status bind(BlockArgument argument, BindingAttr binding);

private:
  Status bindRows(BlockArgument argument, const Activations &from);
  Status bindRole(BlockArgument argument, BindingAttr binding);
  Status bindEventRows(BlockArgument argument, StringRef role);
  Status bindQueries(BlockArgument argument, const RecentQueries *given, BindingAttr binding);
  Status bindRequest(BlockArgument argument, const std::string &name);
  void bindCount(BlockArgument argument, int64_t value) {
    in_.set(argument, numberOf(argument.getType(), value));
  }
  static Number numberOf(Type type, int64_t value) {
    return isa<FloatType>(type) ? Number::ofReal(static_cast<double>(value))
                                : Number::ofInteger(value);
  }
  int64_t groups() const { return method_.geometry().queryHeads / method_.geometry().kvHeads; }

  const ReferenceMethod &method_;
  const PhaseEvent &event_;
  Interpreter &in_;
};

/// Undoes the rotation of rows whose caller gave them after RoPE only.
Status rotateBack(std::vector<double> &values, const Activations &from,
                  const rt::Geometry &geometry) {
  int64_t width = geometry.headDim;
  if (values.empty()) {
    return Status::ok();
  }
  if (static_cast<int64_t>(geometry.ropeInvFreq.size()) * 2 != width || !from.positions) {
    return Status::badInput(
        std::string("expected ") + from.what +
        " before RoPE, or positions and inverse frequencies to rotate them back");
  }
  for (int64_t row = 0; row < from.rows * from.heads; ++row) {
    rt::reference::ropeRow(&values[static_cast<size_t>(row * width)], width, geometry.ropeInvFreq,
                           -static_cast<double>(from.positions[row / from.heads]));
  }
  return Status::ok();
}

Status Binder::bindRows(BlockArgument argument, const Activations &from) {
  int64_t width = method_.geometry().headDim, count = from.rows * from.heads * width;
  AxisAttr channel = findAxisOfKind(axesOf(argument), "channel");
  bool before = channel && channel.getTag() == "pre";
  const float *data = before && from.beforeRope ? from.beforeRope : from.data;
  if (!data && count > 0) {
    return Status::badInput("layer " + std::to_string(event_.layer) + ": no " + from.what +
                            " given");
  }
  std::vector<double> values(data, data + count);
  if (before && !from.beforeRope) {
    KVCACHE_RETURN_IF_ERROR(rotateBack(values, from, method_.geometry()));
  }
  // The rows as they come, [rows, KV head, query head of its group, channel], under the names of
  // the type.
  Tensor rows({{"", from.rows},
               {"", method_.geometry().kvHeads},
               {"", from.heads / method_.geometry().kvHeads},
               {"", width}});
  rows.values = std::move(values);
  std::vector<std::string> names;
  std::string rowAxis;
  for (AxisAttr axis : axesOf(argument)) {
    StringRef kind = axis.getKind();
    size_t place = kind == "head" ? 1 : kind == "group" ? 2 : kind == "channel" ? 3 : 0;
    rows.axes[place].name = axis.getName();
    rowAxis = place == 0 ? axis.getName() : rowAxis;
    names.push_back(axis.getName());
  }
  if (rows.axes[2].name.empty() && rows.axes[2].extent == 1) {
    rows.axes.erase(rows.axes.begin() + 2);
  }
  for (const Axis &axis : rows.axes) {
    if (axis.name.empty()) {
      return Status::badInput(
          std::string("expected axes of kind query or token, head, group and channel for ") +
          from.what);
    }
  }
  StatusOr<Tensor> ordered = inOrder(rows, names);
  KVCACHE_RETURN_IF_ERROR(ordered.status());
  if (from.positions || from.rows == 0) {
    in_.bindPositions(rowAxis, std::vector<int32_t>(from.positions, from.positions + from.rows));
  }
  return in_.set(argument, std::move(*ordered));
}

Status Binder::bindEventRows(BlockArgument argument, StringRef role) {
  const rt::Geometry &geometry = method_.geometry();
  if (!event_.rows) {
    return Status::badInput("the event has no rows");
  }
  const rt::LayerRows &rows = *event_.rows;
  if (role == "query") {
    return bindRows(argument,
                    {"queries", rows.q, rows.rows, geometry.queryHeads, rows.positions, nullptr});
  }
  if (role == "key") {
    return bindRows(argument,
                    {"keys", rows.k, rows.rows, geometry.kvHeads, rows.positions, rows.kPre});
  }
  if (role == "value") {
    return bindRows(argument,
                    {"values", rows.v, rows.rows, geometry.kvHeads, rows.positions, nullptr});
  }
  const int32_t *given = role == "ids" ? rows.ids : rows.positions;
  if (!given && rows.rows > 0) {
    return Status::badInput("layer " + std::to_string(event_.layer) + ": no token ids given");
  }
  Tensor numbers({Axis{axisNames(argument.getType()).at(0), rows.rows}});
  for (int64_t r = 0; r < rows.rows; ++r) {
    numbers.values[static_cast<size_t>(r)] = given[r];
  }
  return in_.set(argument, std::move(numbers));
}

Status Binder::bindQueries(BlockArgument argument, const RecentQueries *given,
                           BindingAttr binding) {
  if (!given) {
    return Status::badInput("the event has no such queries");
  }
  const RecentQueries &recent = *given;
  int64_t count = cast<IntegerAttr>(binding.getArgument()).getInt();
  int64_t have = static_cast<int64_t>(recent.positions.size()), rows = std::min(count, have);
  int64_t stride = method_.geometry().queryHeads * method_.geometry().headDim;
  return bindRows(argument, {"queries", recent.q.data() + (have - rows) * stride, rows,
                             method_.geometry().queryHeads, recent.positions.data() + (have - rows),
                             nullptr});
}

Status Binder::bindRequest(BlockArgument argument, const std::string &name) {
  auto table = event_.requests ? event_.requests->find(name) : rt::RequestTables::const_iterator();
  if (!event_.requests || table == event_.requests->end()) {
    return Status::badInput("request table '" + name + "' was not given");
  }
  const std::vector<int32_t> &entries = table->second;
  auto have = static_cast<int64_t>(entries.size());
  bool number = !isa<AxisTensorType>(argument.getType());
  StringRef kind = number ? "" : axesOf(argument).front().getKind();
  int64_t first = kind == "query" && event_.rows ? event_.length - event_.rows->rows : 0;
  int64_t end = number                               ? 1
                : kind == "query" || kind == "token" ? event_.length
                                                     : have;
  if (end > have && (event_.promptLength < 0 || number)) {
    return Status::badInput("request table '" + name + "': expected at least " +
                            std::to_string(end) + " entries, got " + std::to_string(have));
  }
  if (number) {
    bindCount(argument, entries.front());
    return Status::ok();
  }
  Tensor values({Axis{axisNames(argument.getType()).at(0), end - first}});
  for (int64_t i = first; i < std::min(end, have); ++i) {
    values.values[static_cast<size_t>(i - first)] = entries[static_cast<size_t>(i)];
  }
  return in_.set(argument, std::move(values));
}

Status Binder::bindRole(BlockArgument argument, BindingAttr binding) {
  StringRef role = binding.getRole();
  if (role == "request") {
    return bindRequest(argument, cast<StringAttr>(binding.getArgument()).getValue().str());
  }
  if (role == "query" || role == "key" || role == "value" || role == "pos" || role == "ids") {
    return bindEventRows(argument, role);
  }
  if (role == "last_queries" || role == "draft_queries") {
    return bindQueries(argument, role == "last_queries" ? event_.recent : event_.draft, binding);
  }
  auto result = event_.results.find(role.str());
  if (result != event_.results.end()) {
    in_.bind(argument, result->second);
    return Status::ok();
  }
  if (!isEventRole(role)) {
    return Status::badInput("no earlier phase of the event yields it");
  }
  int64_t rows = event_.rows ? event_.rows->rows : 0;
  int64_t prompt = event_.promptLength < 0 ? event_.length : event_.promptLength;
  bindCount(argument, role == "length"          ? event_.length
                      : role == "rows"          ? rows
                      : role == "layer"         ? event_.layer
                      : role == "layers"        ? method_.geometry().layers
                      : role == "prompt_length" ? prompt
                      : role == "step"          ? event_.step
                                                : event_.budget);
  return Status::ok();
}

Status Binder::bind(BlockArgument argument, BindingAttr binding) {
  FlatSymbolRefAttr symbol = binding.getSymbol();
  if (!symbol) {
    return bindRole(argument, binding);
  }
  std::string name = symbol.getValue().str();
  const auto &artefacts = method_.artefacts[static_cast<size_t>(event_.layer)];
  if (event_.states && event_.states->count(name)) {
    in_.bind(argument, event_.states->at(name));
    return Status::ok();
  }
  if (artefacts.count(name)) {
    const RuntimeValue &whole = artefacts.at(name);
    const auto *tensor = std::get_if<std::shared_ptr<const TensorValue>>(&whole);
    if (tensor && (*tensor)->tensor.axes.size() == axesOf(argument).size() + 1) { // its own part
      StatusOr<RuntimeValue> part = layerOf(whole, event_.layer);
      KVCACHE_RETURN_IF_ERROR(part.status());
      in_.bind(argument, *part);
      return Status::ok();
    }
    in_.bind(argument, whole);
    return Status::ok();
  }
  return Status::badInput("it is neither a state nor a calibrated artefact");
}

} // namespace

Status bindArguments(const ReferenceMethod &method, PhaseOp phase, const PhaseEvent &event,
                     Interpreter &in) {
  Binder binder(method, event, in);
  for (BlockArgument argument : phase.getBlock().getArguments()) {
    BindingAttr binding = phase.getBinding(argument.getArgNumber());
    Status status = binder.bind(argument, binding);
    if (!status.isOk()) {
      return Status(status.code(), "phase '" +
                                       cast<StringAttr>(phase.getKinds()[0]).getValue().str() +
                                       "', argument '" + binding.str() + "': " + status.message());
    }
  }
  return Status::ok();
}

} // namespace mlir::kvcache::reference
