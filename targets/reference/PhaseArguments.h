// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gives the block arguments of a phase their values: rows of the event, states, artefacts, results
// of earlier phases.

#pragma once

#include "targets/reference/Interpreter.h"
#include "targets/reference/ReferenceMethod.h"

#include <map>
#include <string>
#include <vector>

namespace mlir::kvcache::reference {

/// The last query rows of a layer: [rows, Hq, D] and where they stood.
struct RecentQueries {
  std::vector<float> q;
  std::vector<int32_t> positions;
};

/// What a phase may be bound to. Pointers outlive the run; null where the event has no such thing.
struct PhaseEvent {
  int64_t layer = 0;
  int64_t budget = -1;
  int64_t length = 0;                  ///< rows fed to the layer, those of the event included
  const rt::LayerRows *rows = nullptr; ///< positions included
  const RecentQueries *recent = nullptr;
  const RecentQueries *draft = nullptr; ///< queries of drafted tokens
  const std::map<std::string, RuntimeValue> *states = nullptr; ///< by symbol
  const rt::RequestTables *requests = nullptr;
  int64_t promptLength = -1; ///< rows of the prompt in the first layer; -1 until they are known
  int64_t step = 0;          ///< rows fed to the layer since the prompt ended
  std::map<std::string, RuntimeValue> results; ///< score, budget, keep of earlier phases
};

/// Binds every argument of `phase`; an error names the role.
Status bindArguments(const ReferenceMethod &method, PhaseOp phase, const PhaseEvent &event,
                     Interpreter &in);

} // namespace mlir::kvcache::reference
