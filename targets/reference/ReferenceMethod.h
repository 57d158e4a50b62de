// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method bound to a geometry, and what follows from its IR alone: its phases by kind, the schemas
// of its states, which inputs it needs. Nothing changes after `create` but the artefacts that
// calibration fills in.

#pragma once

#include "targets/reference/CacheTable.h"

#include "dialect/MethodOps.h"
#include "runtime/Execution.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <map>
#include <memory>
#include <optional>
#include <set>

namespace mlir::kvcache::reference {

class ReferenceMethod {
public:
  /// Copies and specializes `method`; emits a diagnostic on it when that fails.
  static FailureOr<std::unique_ptr<ReferenceMethod>> create(MethodOp method,
                                                            const rt::Geometry &geometry);

  const rt::Geometry &geometry() const { return geometry_; }
  MethodOp op() const { return method_; }
  const std::string &hash() const { return hash_; }
  std::string name() const;
  std::map<std::string, std::string> parameters() const;

  /// Phases of a kind in the order written.
  ArrayRef<PhaseOp> phases(StringRef kind) const;
  /// The one phase of a kind; null when there is none.
  PhaseOp phase(StringRef kind) const;
  /// The phases of one layer that end an event.
  ArrayRef<PhaseOp> endPhases() const { return endPhases_; }
  /// Whether phases of model scope end the prompt.
  bool plansForAllLayers() const { return plansForAllLayers_; }
  /// Whether prefill says which rows of the prompt the next layer sees.
  bool thinsPrompt() const { return thinsPrompt_; }
  /// Whether the prompt is fed a second time.
  bool needsProbe() const { return !phases("probe").empty(); }
  /// Tokens to draft before the prompt ends.
  int64_t draftSteps() const { return draftSteps_; }
  /// Whether `layers(except(..))` leaves the layer out.
  bool skips(PhaseOp phase, int64_t layer) const;

  /// States in the order written, and what each holds at first: empty caches, zeros.
  ArrayRef<StateOp> states() const { return states_; }
  StatusOr<RuntimeValue> initialState(StateOp state) const;
  /// Basis and mean of a factor column of a state, from the artefacts of a layer.
  StatusOr<rt::reference::FactorSide> factor(StateOp state, const ColumnSchema &column,
                                             int64_t layer, int64_t list) const;

  bool hasTokenBudget() const { return hasTokenBudget_; }
  bool needsPreRopeKeys() const { return needsPreRopeKeys_; }
  bool needsIds() const { return needsIds_; }
  /// Names of the request tables that phases take, in order.
  std::vector<std::string> neededRequests() const { return {requests_.begin(), requests_.end()}; }
  bool merges() const { return merges_; }
  /// Execution::neededQueryRows.
  int64_t neededQueryRows() const { return neededQueryRows_; }
  /// Rows of queries that last_queries bindings look back.
  int64_t windowRows() const { return windowRows_; }
  /// What the phase yields without its attention output.
  static SmallVector<Value> statesOf(PhaseOp phase);

  /// Artefacts by layer and name.
  std::vector<std::map<std::string, RuntimeValue>> artefacts;
  /// The encoder of that name, which a state names.
  EncoderOp encoder(StringAttr name) const;
  bool needsCalibration() const;

private:
  explicit ReferenceMethod(const rt::Geometry &geometry) : geometry_(geometry) {}
  Status collect();
  void findNeeds();

  rt::Geometry geometry_;
  std::unique_ptr<MLIRContext> context_;
  OwningOpRef<ModuleOp> module_;
  MethodOp method_;
  std::string hash_;
  std::map<std::string, SmallVector<PhaseOp, 1>> phases_;
  SmallVector<StateOp, 2> states_;
  SmallVector<PhaseOp> endPhases_;
  bool plansForAllLayers_ = false;
  bool thinsPrompt_ = false;
  std::map<std::string, std::shared_ptr<const CacheSchema>> schemas_;
  bool hasTokenBudget_ = false, needsPreRopeKeys_ = false, needsIds_ = false, merges_ = false;
  std::set<std::string> requests_;
  int64_t neededQueryRows_ = 0, windowRows_ = 0, draftSteps_ = 0;
};

/// The triggers of a phase; none when it runs after the phase before it.
SmallVector<TriggerAttr> triggersOf(PhaseOp phase);

/// The axes of one layer's instance of an artefact of a specialized method.
std::vector<Axis> axesOfArtefact(ArtefactOp artefact);

} // namespace mlir::kvcache::reference
