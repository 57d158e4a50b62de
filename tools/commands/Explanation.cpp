// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sizes are formulas over what slots hold when a program starts: T tokens, B budget, n rows of the
// event.

#include "tools/commands/Explanation.h"

#include "runtime/abi/StorageLayout.h"
#include "runtime/exec/LoadedExecutable.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

namespace {

/// The letter for what a slot holds at the start of `program`.
std::string slotText(const proto::Program &program, int32_t slot) {
  for (const proto::SlotBinding &binding : program.bindings()) {
    if (binding.slot() != slot) {
      continue;
    }
    switch (binding.role()) {
    case proto::SlotBinding::LENGTH:
      return "T";
    case proto::SlotBinding::BUDGET:
      return "B";
    case proto::SlotBinding::ROWS:
      return "n";
    case proto::SlotBinding::STORE_ROWS:
      return "kept";
    case proto::SlotBinding::WINDOW_ROWS:
      return "window";
    case proto::SlotBinding::CONSTANT:
      return std::to_string(binding.value());
    default:
      break;
    }
  }
  for (const proto::Step &step : program.steps()) { // a slot that the program fills itself
    if (step.kind_case() == proto::Step::kStoreRows && step.store_rows().slot() == slot) {
      int64_t divisor = step.store_rows().divide_up();
      return divisor > 1 ? "kept/" + std::to_string(divisor) : "kept";
    }
  }
  return "computed";
}

std::string shapeText(const proto::Program &program, const proto::Buffer &buffer, bool &grows) {
  std::string text;
  grows = false;
  for (const proto::Dim &dim : buffer.dims()) {
    bool constant = dim.kind_case() == proto::Dim::kConstant;
    std::string extent = constant ? std::to_string(dim.constant()) : slotText(program, dim.slot());
    grows = grows || extent == "T" || extent == "computed" || extent.rfind("kept", 0) == 0;
    text += (text.empty() ? "" : ", ") + extent;
  }
  return "[" + text + "]";
}

std::string elementName(uint32_t elem) {
  return elem <= static_cast<uint32_t>(abi::ElementType::I64)
             ? std::string(abi::nameOf(static_cast<abi::ElementType>(elem)))
             : "?";
}

ExplainedStore explainStore(const proto::Store &store, abi::ElementType act) {
  ExplainedStore to{store.name(), store.row_heads(), {}};
  for (const proto::Column &column : store.columns()) {
    ExplainedColumn explained{column.name(), column.storage(), column.width(), 0, 0};
    std::string error;
    auto term = abi::parseStorageTerm(column.storage(), error);
    auto layout = term ? abi::computeColumnLayout(*term, column.width(), act, error) : std::nullopt;
    if (layout) {
      explained.bitsPerExactRow = layout->bitsPerExactRow();
      explained.bitsPerCodedRow =
          layout->coded ? layout->bitsPerCodedRow() : layout->bitsPerExactRow();
    }
    to.columns.push_back(explained);
  }
  return to;
}

void explainProgram(const proto::Executable &executable, const proto::Program &program,
                    Explanation &to) {
  std::string name = rt::programKindName(program.kind());
  for (const proto::Buffer &buffer : program.buffers()) {
    bool grows = false;
    std::string shape = shapeText(program, buffer, grows);
    if (buffer.role() == proto::Buffer::TRANSIENT && grows) {
      to.tensors.push_back({buffer.name(), shape, elementName(buffer.elem()), name});
    }
  }
  for (const proto::Step &step : program.steps()) {
    if (step.kind_case() != proto::Step::kKernel ||
        step.kernel().info() >= executable.kernels_size()) {
      continue;
    }
    const proto::KernelInfo &info = executable.kernels(step.kernel().info());
    ExplainedKernel kernel{
        name, info.name(), info.status(), info.reason(), {info.ops().begin(), info.ops().end()},
        {}};
    for (const proto::Arg &arg : step.kernel().args()) {
      if (arg.kind_case() == proto::Arg::kStore && arg.store() < executable.stores_size()) {
        kernel.stores.push_back(executable.stores(arg.store()).name());
      }
    }
    to.kernels.push_back(std::move(kernel));
  }
}

} // namespace

Explanation explain(const proto::Executable &executable, const MethodSummary &summary,
                    const rt::Geometry &geometry, int64_t tokens) {
  Explanation to;
  to.summary = summary;
  to.geometry = geometry;
  to.tokens = tokens;
  int64_t rows = executable.needed_query_rows();
  to.inputs = rows < 0   ? "queries of every prompt row"
              : rows > 0 ? fmt::format("queries of the last {} prompt rows", rows)
                         : "";
  if (executable.needs_pre_rope_keys()) {
    to.inputs += to.inputs.empty() ? "keys before RoPE" : ", keys before RoPE";
  }
  double bitsPerToken = 0;
  for (const proto::Store &store : executable.stores()) {
    to.stores.push_back(explainStore(store, geometry.act));
    for (const ExplainedColumn &column : to.stores.back().columns) {
      double bits =
          column.bitsPerCodedRow * static_cast<double>(store.row_heads() * geometry.layers);
      bitsPerToken += bits;
      if (column.name == "k" || column.name == "v") {
        to.readBytesPerStep += bits / 8 * static_cast<double>(tokens);
      }
    }
  }
  to.storedBytesPerToken = bitsPerToken / 8;
  to.denseBytesPerToken =
      static_cast<double>(geometry.layers * geometry.kvHeads * geometry.headDim * 2 * 2);
  to.flopsPerStep = 4.0 *
                    static_cast<double>(geometry.queryHeads * geometry.headDim * geometry.layers) *
                    static_cast<double>(tokens);
  for (const proto::Tensor &tensor : executable.tensors()) {
    to.tensors.push_back({tensor.name(), fmt::format("[{}]", fmt::join(tensor.dims(), ", ")),
                          elementName(tensor.elem()), tensor.artefact()  ? "artefact"
                          : tensor.carried() ? "carried"
                                             : "state"});
  }
  for (const proto::Program &program : executable.programs()) {
    explainProgram(executable, program, to);
  }
  return to;
}

Json toJson(const Explanation &e) {
  Json stores = Json::array(), tensors = Json::array(), kernels = Json::array();
  for (const ExplainedStore &store : e.stores) {
    Json columns = Json::array();
    for (const ExplainedColumn &column : store.columns) {
      columns.push_back({{"name", column.name},
                         {"storage", column.storage},
                         {"width", column.width},
                         {"exact_row_bits", column.bitsPerExactRow},
                         {"coded_row_bits", column.bitsPerCodedRow}});
    }
    stores.push_back({{"name", store.name}, {"row_heads", store.rowHeads}, {"columns", columns}});
  }
  for (const ExplainedTensor &tensor : e.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"shape", tensor.shape},
                       {"elem", tensor.elem},
                       {"where", tensor.where}});
  }
  for (const ExplainedKernel &kernel : e.kernels) {
    kernels.push_back({{"phase", kernel.program},
                       {"name", kernel.name},
                       {"ops", kernel.ops},
                       {"stores", kernel.stores},
                       {"status", kernel.status}});
  }
  return {{"method", e.summary.name},
          {"params", e.summary.parameters},
          {"phases", e.summary.phases},
          {"labels", e.summary.labels},
          {"inputs", e.inputs.empty() ? Json(nullptr) : Json(e.inputs)},
          {"takes_budget", e.summary.hasTokenBudget},
          {"layers", e.geometry.layers},
          {"q_heads", e.geometry.queryHeads},
          {"kv_heads", e.geometry.kvHeads},
          {"head_dim", e.geometry.headDim},
          {"act", std::string(abi::nameOf(e.geometry.act))},
          {"tokens", e.tokens},
          {"states", stores},
          {"tensors", tensors},
          {"steps", kernels},
          {"stored_bytes_per_token", e.storedBytesPerToken},
          {"dense_bytes_per_token", e.denseBytesPerToken},
          {"read_bytes_per_step", e.readBytesPerStep},
          {"flops_per_step", e.flopsPerStep}};
}

std::string toText(const Explanation &e) {
  std::string text = fmt::format("{}: {}{}{}\n", e.summary.name, e.summary.title,
                                 e.summary.paper.empty() ? "" : ", ", e.summary.paper);
  text += fmt::format("geometry   L={} Hq={} Hkv={} D={} {}, T={}\n", e.geometry.layers,
                      e.geometry.queryHeads, e.geometry.kvHeads, e.geometry.headDim,
                      abi::nameOf(e.geometry.act), e.tokens);
  text += fmt::format("labels     {}\n", fmt::join(e.summary.labels, ", "));
  text += fmt::format("needs      keys and values{}{}\n", e.inputs.empty() ? "" : ", ", e.inputs);
  text += fmt::format("budget     {}\n",
                      e.summary.hasTokenBudget ? "tokens per KV head and layer" : "none");
  text += fmt::format("phases     {}\n", fmt::join(e.summary.phases, ", "));
  for (const auto &[name, value] : e.summary.parameters) {
    text += fmt::format("parameter  {} = {}\n", name, value);
  }
  for (const ExplainedStore &store : e.stores) {
    for (const ExplainedColumn &column : store.columns) {
      text += fmt::format(
          "state      {}.{}: {} rows of {} values in {}, {:.4g} bits a value ({:.4g} until "
          "coded)\n",
          store.name, column.name,
          store.rowHeads == 1 ? "1 list of" : fmt::format("{} lists of", store.rowHeads),
          column.width, column.storage,
          column.bitsPerCodedRow / static_cast<double>(std::max<int64_t>(column.width, 1)),
          column.bitsPerExactRow / static_cast<double>(std::max<int64_t>(column.width, 1)));
    }
  }
  for (const ExplainedTensor &tensor : e.tensors) {
    text += fmt::format("holds      {} {} {} ({})\n", tensor.name, tensor.elem, tensor.shape,
                        tensor.where);
  }
  std::string phase;
  for (const ExplainedKernel &kernel : e.kernels) {
    text += fmt::format("kernel     {:<11} {} [{}] {}{}{}\n",
                        kernel.program == phase ? "" : kernel.program, kernel.name,
                        fmt::join(kernel.ops, " + "), kernel.status,
                        kernel.reason.empty() ? "" : ": ", kernel.reason);
    phase = kernel.program;
  }
  text += fmt::format("stored     {:.0f} bytes a kept token, dense f16 {:.0f}\n",
                      e.storedBytesPerToken, e.denseBytesPerToken);
  text += fmt::format("moved      {:.0f} bytes a decode step reads of K and V when {} tokens are "
                      "kept, dense f16 {:.0f}\n",
                      e.readBytesPerStep, e.tokens,
                      e.denseBytesPerToken * static_cast<double>(e.tokens));
  text += fmt::format(
      "roofline   {:.3g} flops a decode step, {:.3g} for each byte of K and V it reads\n",
      e.flopsPerStep, e.flopsPerStep / e.readBytesPerStep);
  text +=
      "prompt     rows stay exact until the end of the prompt, whatever storage they get then\n";
  return text;
}

} // namespace kvcache::tools
