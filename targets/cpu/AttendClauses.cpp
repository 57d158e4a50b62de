// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Logits changed by a scalar region, and lists of chosen entries, by the emitter of nests.

#include "targets/cpu/AttendClauses.h"

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

bool AttendClauses::changesLogits() const { return op && AttendOp(op).getLogitBody(); }

bool AttendClauses::choosesEntries() const { return op && AttendOp(op).getAt(); }

bool AttendClauses::readsArgument(unsigned number) const {
  return changesLogits() && !AttendOp(op).getLogitBody()->getArgument(number).use_empty();
}

void ClauseEmitter::begin(ArrayRef<std::string> words) {
  if (clauses_.op) {
    nest_.begin(words);
  }
}

Point ClauseEmitter::pointOf(Value queryHead, AxisIndex row) {
  auto scalarAt = [](Value value) { return AxisIndex{AxisIndex::Kind::Scalar, value, false}; };
  Value group = k_.index(clauses_.group);
  return Point()
      .with("head", scalarAt(k_.floorDiv(queryHead, group)))
      .with("group", scalarAt(k_.rem(queryHead, group)))
      .with(clauses_.queryAxis, row);
}

Value ClauseEmitter::changed(Value logits, Value queryPosition, Value keyPosition,
                             const Place &place) {
  AttendOp op = clauses_.op;
  Block &body = *op.getLogitBody();
  Point point = pointOf(place.queryHead, place.row).with(clauses_.tokenAxis, place.entry);
  point.mask = place.mask;
  Value result;
  nest_.scoped([&] {
    SmallVector<Value> inputs{logits, queryPosition, keyPosition};
    for (auto [input, argument] : llvm::zip(op.getInputs(), body.getArguments().drop_front(3))) {
      inputs.push_back(argument.use_empty() ? Value() : nest_.evaluate(input, point));
    }
    result = nest_.lift(nest_.applyRegion(op, body, inputs).front());
  });
  return result;
}

Value ClauseEmitter::chosenCount(Value queryHead, Value row) {
  Value at = AttendOp(clauses_.op).getAt();
  Point point = pointOf(queryHead, {AxisIndex::Kind::Scalar, row, false});
  Value count;
  nest_.scoped([&] {
    count = k_.toIndex(
        nest_.bound(at, axesOf(at).back().getName(), point.restrictedTo(axesOf(at))));
  });
  return count;
}

Value ClauseEmitter::chosenEntry(Value queryHead, Value row, Value at) {
  Value set = AttendOp(clauses_.op).getAt(), entry;
  Point point = pointOf(queryHead, {AxisIndex::Kind::Scalar, row, false})
                    .with(axesOf(set).back().getName(), {AxisIndex::Kind::Scalar, at, false});
  nest_.scoped([&] { entry = k_.toIndex(nest_.evaluate(set, point)); });
  return entry;
}

Value ClauseEmitter::chosenEntries(Value queryHead, Value row, Value at, Value mask) {
  Value set = AttendOp(clauses_.op).getAt(), entries;
  Point point = pointOf(queryHead, {AxisIndex::Kind::Scalar, row, false})
                    .with(axesOf(set).back().getName(), {AxisIndex::Kind::Contiguous, at, false});
  point.mask = mask;
  nest_.scoped([&] { entries = nest_.lift(nest_.evaluate(set, point)); });
  return entries;
}
