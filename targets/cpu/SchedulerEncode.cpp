// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The encoder of a column: the rows that are due go through its ops and back to their place, where
// the encode of the column's storage finds them.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "targets/cpu/DueRows.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

EncoderOp Scheduler::encoderOf(const StorePlace &store, StringRef column) {
  auto state = cast<StateOp>(SymbolTable::lookupSymbolIn(context_.method, store.name));
  auto symbol = state.getEncodeAttr()
                    ? dyn_cast_or_null<FlatSymbolRefAttr>(state.getEncodeAttr().get(column))
                    : FlatSymbolRefAttr();
  return symbol ? cast<EncoderOp>(SymbolTable::lookupSymbolIn(context_.method, symbol.getAttr()))
                : EncoderOp();
}

TensorPlace Scheduler::placeArtefact(StringRef name, ArrayRef<AxisAttr> axes) {
  TensorPlace place;
  SmallVector<Extent> dims;
  for (AxisAttr axis : axes) {
    dims.push_back(Extent::of(axis.getInteger().value_or(1)));
    place.axes.push_back(axis);
    place.places.push_back({dims.back(), -1, -1, {}});
  }
  place.buffer = builder_.roleBuffer(proto::Buffer::TENSOR, name, ElementType::F32, dims);
  return place;
}

LogicalResult Scheduler::runEncoder(EncoderOp encoder, const StorePlace &store, int column, int due,
                                    int dueRows, int64_t tasks) {
  const ::kvcache::abi::ColumnLayout &layout = store.layouts[column];
  for (auto [binding, argument] : llvm::zip(encoder.getBindings().getAsRange<BindingAttr>(),
                                            encoder.getBlock().getArguments())) {
    if (FlatSymbolRefAttr symbol = binding.getSymbol()) {
      tensors_[argument] = placeArtefact(symbol.getValue(), axesOf(argument));
    }
  }
  TensorPlace rows;
  SmallVector<Extent> dims;
  for (AxisAttr axis : axesOf(encoder.getRows())) {
    AxisPlace place{Extent::of(axis.getInteger().value_or(1)), -1, -1, {}};
    if (axis.getKind() == "page") {
      place.capacity = blocksOf(Extent::inSlot(dueRows), Extent::of(layout.block));
      place.lengths = builder_.newBuffer("blocks", ElementType::I32, {Extent::of(store.heads)});
      for (AxisAttr lead : rows.axes) {
        place.lengthAxes.push_back(lead.getName());
      }
    }
    dims.push_back(place.capacity);
    rows.axes.push_back(axis);
    rows.places.push_back(place);
  }
  rows.buffer = builder_.newBuffer("rows", ElementType::F32, dims);
  KernelOperands operands;
  operands.heads = store.heads;
  operands.stores["store"] = store.index;
  operands.buffers["due"] = due;
  operands.buffers["rows"] = rows.buffer;
  operands.buffers["lengths"] = rows.places[*findAxisIndex(rows.axes, "page")].lengths;
  operands.words["capacity"] = Extent::inSlot(dueRows);
  operands.words["blocks"] = Extent::of(tasks);
  builder_.setSource({});
  builder_.launch(emitLoadDue(context_.kernels, kernelName("load_due"), store.layouts, column,
                              layout.block),
                  operands, {"kvcache.encoder"}, "commit");
  tensors_[encoder.getRows()] = rows;
  for (Operation &op : encoder.getBlock().without_terminator()) {
    if (op.getResult(0) == encoder.getBlock().getTerminator()->getOperand(0)) {
      continue; // the encode itself is that of the column
    }
    if (failed(runOp(&op))) {
      return failure();
    }
  }
  if (failed(flushScalars())) {
    return failure();
  }
  builder_.setSource({});
  operands.buffers["rows"] = tensors_[encoder.getCodedRows()].buffer;
  builder_.launch(emitStoreDue(context_.kernels, kernelName("store_due"), store.layouts, column),
                  operands, {"kvcache.encoder"}, "commit");
  return success();
}

} // namespace mlir::kvcache::cpu
