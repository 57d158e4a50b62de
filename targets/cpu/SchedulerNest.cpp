// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache.kernel: gives its results memory, describes its inputs to the nest emitter, and launches
// what comes back.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "dialect/KernelOps.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/ProjectOps.h"
#include "dialect/RowOps.h"
#include "dialect/SelectOps.h"

#include "mlir/IR/Matchers.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

namespace {

ElementType elementOf(Type type) {
  if (isa<IndexSetType>(type)) {
    return ElementType::I32;
  }
  Type element = cast<AxisTensorType>(type).getElementType();
  if (element && element.isInteger(1)) {
    return ElementType::U8;
  }
  if (element && element.isInteger(32)) {
    return ElementType::I32;
  }
  return element && element.isInteger(64) ? ElementType::I64 : ElementType::F32;
}

/// Names extents as words of one kernel.
class Words {
public:
  explicit Words(KernelOperands &operands) : operands_(operands) {}

  std::string word(Extent extent) {
    for (auto &[name, known] : named_) {
      if (known == extent) {
        return name;
      }
    }
    std::string name = "w" + std::to_string(named_.size());
    named_.emplace_back(name, extent);
    operands_.words[name] = extent;
    return name;
  }
  NestExtent nest(Extent extent) {
    return extent.isConstant() ? NestExtent::of(extent.constant) : NestExtent::inWord(word(extent));
  }

private:
  KernelOperands &operands_;
  std::vector<std::pair<std::string, Extent>> named_;
};

/// Whether a selection ranks the tokens of each row head, which reports show.
bool isScore(TopkOp topk) {
  return topk.getAxis() == "token" && llvm::all_of(axesOf(topk.getInput()), [](AxisAttr axis) {
           return axis.getKind() == "head" || axis.getKind() == "group" || axis.getName() == "token";
         });
}

std::string storeArg(int store) { return "s" + std::to_string(store); }
std::string bufferArg(int buffer) { return "b" + std::to_string(buffer); }

NestAxis nestAxis(const AxisPlace &place, ProgramBuilder &builder, Words &words,
                  KernelOperands &operands) {
  NestAxis axis;
  axis.capacity = words.nest(place.capacity);
  axis.lengthAxes = place.lengthAxes;
  if (place.lengths >= 0) {
    axis.lengths = bufferArg(place.lengths);
    SmallVector<int64_t> extents = builder.staticExtents(place.lengths);
    if (extents.size() == place.lengthAxes.size() &&
        llvm::none_of(extents, ShapedType::isDynamic)) {
      axis.lengthExtents.assign(extents.begin(), extents.end());
    }
    operands.buffers[axis.lengths] = place.lengths;
  } else if (place.store >= 0) {
    axis.store = storeArg(place.store);
    operands.stores[axis.store] = place.store;
  }
  return axis;
}

NestOperand nestTensor(Value value, const TensorPlace &place, ProgramBuilder &builder, Words &words,
                       KernelOperands &operands) {
  NestOperand operand;
  operand.value = value;
  operand.arg = bufferArg(place.buffer);
  operand.elem = place.elem;
  operands.buffers[operand.arg] = place.buffer;
  bool reordered = false;
  for (auto [declared, memory] : llvm::zip(axesOf(value), place.axes)) {
    for (auto [known, where] : llvm::zip(place.axes, place.places)) {
      if (known.getName() == declared.getName()) {
        operand.axes.push_back(nestAxis(where, builder, words, operands));
      }
    }
    operand.order.push_back(memory.getName());
    reordered |= memory.getName() != declared.getName();
  }
  if (!reordered) {
    operand.order.clear();
  }
  return operand;
}

} // namespace

/// The slice along `axis` that a value of a kernel is computed from, element by element or by sums; null when there is none.
static SliceOp sliceBehind(Value value, StringRef axis) {
  Operation *op = value.getDefiningOp();
  if (!op || isa<RelabelOp, KernelOp>(op)) { // relabel: placeAxis follows the other name
    return {};
  }
  if (auto slice = dyn_cast<SliceOp>(op); slice && slice.getAxis() == axis) {
    return slice;
  }
  for (Value operand : op->getOperands()) {
    bool shares = isa<AxisTensorType>(operand.getType()) && findAxis(axesOf(operand), axis);
    if (SliceOp slice = shares ? sliceBehind(operand, axis) : SliceOp()) {
      return slice;
    }
  }
  return {};
}

AxisPlace Scheduler::placeAxis(KernelOp kernel, AxisAttr axis, Value yielded) {
  if (std::optional<int64_t> integer = axis.getInteger()) {
    return {Extent::of(*integer), -1, -1, {}};
  }
  Operation *source = yielded.getDefiningOp();
  auto outerOf = [&](Value inner) -> Value {
    auto argument = dyn_cast<BlockArgument>(inner);
    return argument ? kernel.getInputs()[argument.getArgNumber()] : inner;
  };
  if (auto relabel = dyn_cast_or_null<RelabelOp>(source)) {
    auto at = findAxisIndex(axesOf(relabel.getResult()), axis.getName());
    return placeAxis(kernel, axesOf(relabel.getInput())[*at], relabel.getInput());
  }
  if (SliceOp slice = sliceBehind(yielded, axis.getName())) {
    return {scalar(outerOf(slice.getSize())), -1, -1, {}};
  }
  for (Value input : kernel.getInputs()) {
    if (const StorePlace *store = storeOf(input)) {
      if (findAxis(store->type.getRows(), axis.getName())) {
        return store->tokenAxis(builder_.storeRows(store->index));
      }
    } else if (auto found = tensors_.find(input); found != tensors_.end()) {
      for (auto [known, place] : llvm::zip(found->second.axes, found->second.places)) {
        if (known.getName() == axis.getName()) {
          return place;
        }
      }
    }
  }
  // Or it is an axis of an input under another name.
  for (auto relabel : kernel.getBlock().getOps<RelabelOp>()) {
    std::optional<unsigned> at = findAxisIndex(axesOf(relabel.getResult()), axis.getName());
    AxisAttr from = at ? axesOf(relabel.getInput())[*at] : AxisAttr();
    if (from && from != axis) {
      return placeAxis(kernel, from, relabel.getInput());
    }
  }
  return {};
}

LogicalResult Scheduler::placeOutput(KernelOp kernel, unsigned result, TensorPlace &place) {
  Value yielded = kernel.getYielded(result);
  Type type = kernel.getResult(result).getType();
  place.elem = elementOf(type);
  place.axes.assign(axesOf(type).begin(), axesOf(type).end());

  // Selections bring an axis of their own: at most as long as what they select from, with a length
  // a head.
  Operation *source = yielded.getDefiningOp();
  std::string domain;
  Value from;
  if (auto topk = dyn_cast_or_null<TopkOp>(source)) {
    domain = topk.getAxis().str();
    from = topk.getInput();
  } else if (auto where = dyn_cast_or_null<SelectWhereOp>(source)) {
    domain = where.getAxis().str();
  } else if (isa_and_nonnull<SelectComplementOp, SelectUnionOp, SelectExpandOp, SelectFitOp>(source)) {
    domain = cast<IndexSetType>(yielded.getType()).getDomain().str();
  }
  SmallVector<Extent> dims;
  for (AxisAttr axis : place.axes) {
    AxisPlace where;
    if (!domain.empty() && axis == place.axes.back()) {
      AxisAttr domainAxis =
          AxisAttr::get(type.getContext(), StringRef(domain).split('.').first,
                        StringRef(domain).split('.').second, UnitAttr::get(type.getContext()));
      where = placeAxis(kernel, domainAxis, yielded);
      where.store = -1;
      where.lengthAxes.clear();
      for (AxisAttr lead : ArrayRef<AxisAttr>(place.axes).drop_back()) {
        where.lengthAxes.push_back(lead.getName());
      }
      where.lengths = builder_.newBuffer("lengths", ElementType::I32,
                                         dims.empty() ? SmallVector<Extent>{Extent::of(1)} : dims);
    } else if (auto made = placeMadeAxis(kernel, source, axis, place)) {
      where = *made;
    } else {
      where = placeAxis(kernel, axis, yielded);
    }
    if (where.capacity == Extent::of(0) && axis.isDynamic()) {
      return kernel.emitError() << "nothing bounds axis '" << axis.getName()
                                << "' of a result of this kernel";
    }
    dims.push_back(where.capacity);
    place.places.push_back(where);
  }

  // Results of the program have buffers of their own.
  for (OpOperand &use : kernel.getResult(result).getUses()) {
    auto next = dyn_cast<NextOp>(use.getOwner());
    auto symbol = next ? dyn_cast<FlatSymbolRefAttr>(next.getNames()[use.getOperandNumber()])
                       : FlatSymbolRefAttr();
    if (symbol && context_.tensors.count(symbol.getValue().str())) {
      place.buffer = builder_.roleBuffer(proto::Buffer::TENSOR, symbol.getValue(), ElementType::F32, dims);
    }
  }
  if (place.buffer < 0) {
    // Named after the op that fills it, for `explain`.
    Operation *filler = yielded.getDefiningOp();
    place.buffer =
        builder_.newBuffer(filler ? filler->getName().stripDialect() : "value", place.elem, dims);
  }
  return success();
}

std::vector<std::string> Scheduler::bindNestInputs(ValueRange values, NestKernel &spec,
                                                   KernelOperands &operands,
                                                   std::vector<KernelArg> &args) {
  KernelOperands own; // lengths stay out: rows that exist are the caller's to know
  Words words(own);
  for (Value value : values) {
    NestOperand operand;
    if (isa<AxisTensorType, IndexSetType>(value.getType())) {
      operand = nestTensor(value, tensors_[value], builder_, words, own);
      bool isSet = isa<IndexSetType>(value.getType());
      for (NestAxis &axis : operand.axes) {
        axis.store.clear();
        if (!isSet) {
          axis.lengths.clear();
        } else if (!axis.lengths.empty()) { // how many are chosen
          args.push_back(KernelArg::buffer(axis.lengths, ElementType::I32));
          operands.buffers[axis.lengths] = own.buffers.lookup(axis.lengths);
        }
      }
      auto known = [&](const KernelArg &arg) { return arg.name == operand.arg; };
      if (llvm::none_of(args, known)) {
        args.push_back(KernelArg::buffer(operand.arg, operand.elem));
        operands.buffers[operand.arg] = tensors_[value].buffer;
      }
    } else {
      operand.value = value;
      operand.arg = words.word(scalar(value));
    }
    spec.inputs.push_back(operand);
  }
  std::vector<std::string> names;
  for (auto &[name, extent] : own.words) {
    names.push_back(name.str());
    operands.words[name] = extent;
  }
  llvm::sort(names);
  return names;
}

LogicalResult Scheduler::runKernel(KernelOp kernel) {
  NestKernel spec;
  KernelOperands operands;
  Words words(operands);
  Operation *root = kernel.getYielded(0).getDefiningOp();
  spec.name = kernelName(root->getName().stripDialect());
  llvm::replace(spec.name, '.', '_');
  for (auto [input, argument] : llvm::zip(kernel.getInputs(), kernel.getBlock().getArguments())) {
    if (const StorePlace *store = storeOf(input)) {
      NestOperand operand;
      operand.value = argument;
      operand.arg = storeArg(store->index);
      operands.stores[operand.arg] = store->index;
      for (AxisAttr axis : store->type.getRows()) {
        AxisPlace place{Extent::of(axis.getInteger().value_or(1)), -1, -1, {}};
        if (axis.isDynamic()) {
          place = store->tokenAxis(builder_.storeRows(store->index));
        }
        operand.axes.push_back(nestAxis(place, builder_, words, operands));
      }
      // Rows of the prompt are exact until its end has been committed (as `compact` relies on).
      bool exact = builder_.kind() == proto::Program::PROMPT_END ||
                   builder_.kind() == proto::Program::PROMPT_SCORE ||
                   builder_.kind() == proto::Program::DRAFT_END;
      for (auto [name, layout] : llvm::zip(store->names, store->layouts)) {
        operand.columns.push_back({name, layout, exact});
      }
      spec.inputs.push_back(operand);
    } else if (isa<AxisTensorType, IndexSetType>(input.getType())) {
      const TensorPlace &place = tensors_[input];
      spec.inputs.push_back(nestTensor(argument, place, builder_, words, operands));
    } else {
      NestOperand operand;
      operand.value = argument;
      operand.arg = words.word(scalar(input));
      spec.inputs.push_back(operand);
    }
  }
  for (Operation &op : kernel.getBlock().without_terminator()) {
    if (!op.hasTrait<OpTrait::ConstantLike>()) {
      spec.ops.push_back(&op);
    }
  }
  for (OpResult result : kernel.getResults()) {
    if (failed(placeOutput(kernel, result.getResultNumber(), tensors_[result]))) {
      return failure();
    }
    spec.outputs.push_back(nestTensor(kernel.getYielded(result.getResultNumber()), tensors_[result],
                                      builder_, words, operands));
  }

  FailureOr<NestResult> emitted = emitNest(context_.kernels, spec);
  if (failed(emitted)) {
    return failure();
  }
  for (const NestScratch &scratch : emitted->scratch) {
    SmallVector<Extent> dims;
    for (const NestExtent &dim : scratch.dims) {
      dims.push_back(dim.word.empty() ? Extent::of(dim.constant) : operands.words.lookup(dim.word));
    }
    operands.buffers[scratch.arg] = builder_.newBuffer("scratch", scratch.elem, dims);
  }
  LaunchOp launch = builder_.launch(emitted->kernel, operands, emitted->ops, phaseName_);
  if (isa<SortOp, SelectAllocOp>(root)) {
    launch.setCheckOp(root->getName().stripDialect());
  }
  if (auto topk = dyn_cast<TopkOp>(root)) {
    launch.setCheckOp("select.topk");
    if (builder_.kind() == proto::Program::PROMPT_END && isScore(topk)) {
      auto input = dyn_cast<BlockArgument>(topk.getInput());
      builder_.ranked(tensors_[kernel.getInputs()[input.getArgNumber()]].buffer);
    }
  }
  return success();
}

} // namespace mlir::kvcache::cpu
