// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads a composed method; computes nothing that the passes do not know.

#include "tools/compiler/Summaries.h"

#include "dialect/ParameterText.h"
#include "passes/analysis/Labels.h"
#include "passes/pipelines/Stages.h"
#include "runtime/abi/StorageLayout.h"
#include "tools/compiler/Descriptions.h"

#include "mlir/IR/BuiltinAttributes.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

namespace kvcache::tools {

using namespace mlir;
using namespace mlir::kvcache;

std::string budgetRefusal(const std::string &name, MethodOp method) {
  std::vector<std::string> accepted;
  for (auto param : method.getBody().front().getOps<ParamOp>()) {
    accepted.push_back(param.getSymName().str());
  }
  return "method '" + name + "' has no token budget" +
         (accepted.empty()
              ? ": it keeps every token"
              : ", expected --set of " + llvm::join(accepted, ", ") + " instead of --budget");
}

MethodSummary summarize(const std::string &name, LoadedMethods &methods) {
  MethodSummary summary;
  summary.name = name;
  ComposeRequest request{methods.parts, methods.bases, {}};
  FailureOr<MethodOp> method = composeMethod(*methods.module, request);
  if (failed(method)) {
    return summary;
  }
  summary.family = method->getInfoText("family").str();
  summary.paper = method->getInfoText("paper").str();
  summary.title = method->getInfoText("title").str();
  for (const std::string &part : methods.parts) {
    auto written = methods.module->lookupSymbol<MethodOp>(part);
    for (auto phase : written.getBody().front().getOps<PhaseOp>()) {
      for (StringAttr kind : phase.getKinds().getAsRange<StringAttr>()) {
        if (!llvm::is_contained(summary.phases, kind.getValue())) {
          summary.phases.push_back(kind.getValue().str());
        }
      }
    }
  }
  for (auto phase : method->getBody().front().getOps<PhaseOp>()) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      summary.hasTokenBudget = summary.hasTokenBudget || binding.getRole() == "budget";
    }
  }
  for (auto param : method->getBody().front().getOps<ParamOp>()) {
    // The budget of a run is not a parameter of the method.
    if (param.getSymName() != "budget") {
      summary.parameters[param.getSymName().str()] = parameterText(param);
    }
  }
  summary.labels = legalityLabels(*method);
  summary.description = describe(name, methods, *method);

  // Bits at a common head size, so that methods compare.
  if (succeeded(specializeMethod(*method, {32, 32, 8, 128, "f16"}))) {
    describeColumns(*method, summary.description);
    for (auto state : method->getBody().front().getOps<StateOp>()) {
      auto cache = dyn_cast<CacheType>(state.getType());
      for (auto [column, bits] : {std::pair<StringRef, double *>{"k", &summary.bitsPerValueK},
                                  {"v", &summary.bitsPerValueV}}) {
        if (ColumnAttr found = cache ? cache.getColumn(column) : ColumnAttr()) {
          std::string error;
          auto layout = abi::computeColumnLayout(*found.getStorage().getTerm(), 128,
                                                 abi::ElementType::F16, error);
          *bits = layout ? layout->bitsPerCodedRow() / 128 : *bits;
        }
      }
    }
  }
  return summary;
}

} // namespace kvcache::tools
