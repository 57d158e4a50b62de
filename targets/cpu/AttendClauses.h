// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The clauses `logit` and `at` of attend inside its kernels: a scalar function of each logit, and
// lists of the entries that are read.

#pragma once

#include "targets/cpu/Attend.h"
#include "targets/cpu/NestBody.h"

namespace mlir::kvcache::cpu {

/// Emits what the clauses of `spec` say; `spec` and the builder must outlive it.
class ClauseEmitter {
public:
  ClauseEmitter(KernelBuilder &k, const AttendSpec &spec)
      : k_(k), clauses_(spec.clauses), nest_(k, spec.clauses.inputs) {}

  /// Call once, at the start of the kernel; `words` are those of its scalars, in order.
  void begin(ArrayRef<std::string> words);
  bool failed() const { return nest_.failed(); }

  /// Where logits lie: a query head, and numbers of query rows and of entries of the cache, one of
  /// them by lane. `mask`: the lanes that exist.
  struct Place {
    Value queryHead;
    AxisIndex row, entry;
    Value mask;
  };
  /// f of a vector of logits. Positions: vectors or scalars, null where f does not read them.
  Value changed(Value logits, Value queryPosition, Value keyPosition, const Place &place);

  /// How many entries are chosen for a query head and row.
  Value chosenCount(Value queryHead, Value row);
  /// Entry number `at` of that list (index), or entries at .. at + 15 (vector<16xi32>) where `mask`
  /// has lanes.
  Value chosenEntry(Value queryHead, Value row, Value at);
  Value chosenEntries(Value queryHead, Value row, Value at, Value mask);

private:
  Point pointOf(Value queryHead, AxisIndex row);

  KernelBuilder &k_;
  const AttendClauses &clauses_;
  NestBody nest_;
};

} // namespace mlir::kvcache::cpu
