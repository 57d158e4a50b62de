// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text of attributes and types, and bytes by the formulas of the storage terms.

#include "tools/compiler/Descriptions.h"

#include "runtime/abi/StorageLayout.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

namespace kvcache::tools {

using namespace mlir;
using namespace mlir::kvcache;

namespace {

/// The comment lines at the top, without slashes.
std::string headerOf(StringRef text) {
  std::string header;
  while (text.consume_front("//")) {
    auto [line, rest] = text.split('\n');
    header += line.ltrim(' ').str() + "\n";
    text = rest;
  }
  return header;
}

std::string typeText(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

std::string triggerText(PhaseOp phase) {
  std::vector<std::string> texts;
  for (TriggerAttr trigger : phase.getTriggersAttr().getAsRange<TriggerAttr>()) {
    std::string text = trigger.getEvent().str();
    std::vector<std::string> arguments;
    if (trigger.getState()) {
      arguments.push_back("@" + trigger.getState().getValue().str());
    }
    if (auto sizes = dyn_cast_or_null<ArrayAttr>(trigger.getLimit())) { // of a source
      for (Attribute size : sizes) {
        auto symbol = dyn_cast<SymAttr>(size);
        arguments.push_back(symbol ? symbol.getName().str()
                                   : std::to_string(cast<IntegerAttr>(size).getInt()));
      }
    } else if (Attribute limit = trigger.getLimit()) {
      auto number = dyn_cast<IntegerAttr>(limit);
      auto symbol = dyn_cast<SymAttr>(limit);
      arguments.push_back(number   ? std::to_string(number.getInt())
                          : symbol ? symbol.getName().str()
                                   : "budget");
    }
    texts.push_back(text + (arguments.empty() ? "" : "(" + llvm::join(arguments, ", ") + ")"));
  }
  return llvm::join(texts, ", ");
}

DescribedPhase describePhase(PhaseOp phase) {
  DescribedPhase described;
  std::vector<std::string> kinds, inputs;
  for (StringAttr kind : phase.getKinds().getAsRange<StringAttr>()) {
    kinds.push_back(kind.getValue().str());
  }
  for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
    inputs.push_back(binding.str());
  }
  described.kinds = llvm::join(kinds, ", ") + (phase.getModelScope() ? " (whole model)" : "");
  described.inputs = llvm::join(inputs, ", ");
  described.triggers = phase.getTriggersAttr()      ? triggerText(phase)
                       : phase.hasKind("calibrate") ? "once, before any prompt"
                                                    : "";
  return described;
}

/// "Hkv * G": the row axes but the tokens.
std::string rowsText(CacheType cache) {
  std::vector<std::string> extents;
  for (AxisAttr axis : cache.getRows().drop_back()) {
    extents.push_back(axis.getSymbol().empty() ? std::to_string(axis.getInteger().value_or(0))
                                               : axis.getSymbol().str());
  }
  return extents.empty() ? "1" : llvm::join(extents, " * ");
}

} // namespace

MethodDescription describe(const std::string &name, LoadedMethods &methods, MethodOp composed) {
  MethodDescription description;
  description.header = headerOf(shippedMethodText(name));
  for (const std::string &part : methods.parts) {
    auto written = methods.module->lookupSymbol<MethodOp>(part);
    for (auto phase : written.getBody().front().getOps<PhaseOp>()) {
      description.phases.push_back(describePhase(phase));
    }
  }
  for (Operation &op : composed.getBody().front()) {
    if (auto state = dyn_cast<StateOp>(op)) {
      description.values.push_back(
          {"@" + state.getSymName().str(), typeText(state.getType()), false, false});
      if (auto cache = dyn_cast<CacheType>(state.getType())) {
        for (ColumnAttr column : cache.getColumns()) {
          description.columns.push_back(
              {state.getSymName().str(), column.getName().str(), rowsText(cache), 0, 0});
        }
      }
    } else if (auto artefact = dyn_cast<ArtefactOp>(op)) {
      description.values.push_back({"@" + artefact.getSymName().str(), typeText(artefact.getType()),
                                    true, artefact.getFromFile()});
    }
  }
  return description;
}

void describeColumns(MethodOp specialized, MethodDescription &description) {
  for (DescribedColumn &described : description.columns) {
    auto state = specialized.lookupSymbol<StateOp>(described.state);
    auto cache = state ? dyn_cast<CacheType>(state.getType()) : CacheType();
    ColumnAttr column = cache ? cache.getColumn(described.name) : ColumnAttr();
    if (!column) {
      continue;
    }
    int64_t width = 1;
    for (AxisAttr axis : column.getAxes()) {
      width *= axis.getInteger().value_or(1);
    }
    std::string error;
    auto layout = abi::computeColumnLayout(*column.getStorage().getTerm(), width,
                                           abi::ElementType::F16, error);
    if (layout) {
      described.exactBytes = layout->bitsPerExactRow() / 8;
      described.codedBytes = layout->coded ? layout->bitsPerCodedRow() / 8 : described.exactBytes;
    }
  }
}

} // namespace kvcache::tools
