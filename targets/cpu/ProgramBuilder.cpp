// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Slots, buffers and steps of one program. Invariant: a measured row count is dropped as soon as a
// step changes the store it was measured on.

#include "targets/cpu/ProgramBuilder.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"

#include "llvm/Support/ErrorHandling.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

/// The word for an enumerator in IR: its name in lower case.
static std::string wordOf(const std::string &enumerator) { return StringRef(enumerator).lower(); }

ProgramBuilder::ProgramBuilder(ExecutableOp executable, proto::Program::Kind kind,
                               ArrayRef<int64_t> layers)
    : executable_(executable), kind_(kind), b_(executable.getContext()), loc_(executable.getLoc()) {
  b_.setInsertionPointToEnd(&executable.getBody().front());
  program_ = ProgramOp::create(
      b_, loc_, b_.getStringAttr(wordOf(proto::Program::Kind_Name(kind))),
      layers.empty() ? DenseI64ArrayAttr() : b_.getDenseI64ArrayAttr(layers), IntegerAttr(),
      IntegerAttr(), StringAttr(), DenseI64ArrayAttr());
  b_.setInsertionPointToEnd(&program_.getBody().emplaceBlock());
}

template <typename Op>
Op ProgramBuilder::declare(llvm::function_ref<Op()> body) {
  OpBuilder::InsertionGuard guard(b_);
  if (lastDeclaration_) {
    b_.setInsertionPointAfter(lastDeclaration_);
  } else {
    b_.setInsertionPointToStart(&program_.getBody().front());
  }
  Op op = body();
  lastDeclaration_ = op;
  return op;
}

int ProgramBuilder::addSlot(proto::SlotBinding::Role role, FlatSymbolRefAttr store,
                            IntegerAttr value) {
  slots_.push_back(declare<SlotOp>([&] {
    return SlotOp::create(b_, loc_, MemRefType::get({}, b_.getI64Type()),
                          b_.getStringAttr(wordOf(proto::SlotBinding::Role_Name(role))), store,
                          value);
  }));
  return static_cast<int>(slots_.size()) - 1;
}

int ProgramBuilder::boundSlot(proto::SlotBinding::Role role) {
  auto [it, fresh] = bound_.try_emplace(role, -1);
  if (fresh) {
    it->second = addSlot(role, {}, {});
  }
  return it->second;
}

int ProgramBuilder::windowSlot(int64_t rows) {
  auto [it, fresh] = windows_.try_emplace(rows, -1);
  if (fresh) {
    it->second = addSlot(proto::SlotBinding::WINDOW_ROWS, {}, b_.getI64IntegerAttr(rows));
  }
  return it->second;
}

int ProgramBuilder::constantSlot(int64_t value) {
  auto [it, fresh] = constants_.try_emplace(value, -1);
  if (fresh) {
    it->second = addSlot(proto::SlotBinding::CONSTANT, {}, b_.getI64IntegerAttr(value));
  }
  return it->second;
}

DenseI64ArrayAttr ProgramBuilder::split(ArrayRef<Extent> extents, SmallVector<Value> &values) {
  SmallVector<int64_t> constants;
  for (Extent extent : extents) {
    constants.push_back(extent.isConstant() ? extent.constant : ShapedType::kDynamic);
    if (!extent.isConstant()) {
      values.push_back(slots_[extent.slot]);
    }
  }
  return b_.getDenseI64ArrayAttr(constants);
}

int ProgramBuilder::addBuffer(proto::Buffer::Role role, StringRef name, ElementType elem,
                              ArrayRef<Extent> dims, bool zeroed) {
  std::string_view element = ::kvcache::abi::nameOf(elem);
  SmallVector<Value> extents;
  DenseI64ArrayAttr constants = split(dims, extents);
  buffers_.push_back(declare<BufferOp>([&] {
    return BufferOp::create(
        b_, loc_, MemRefType::get({ShapedType::kDynamic}, b_.getIntegerType(8)),
        b_.getStringAttr(wordOf(proto::Buffer::Role_Name(role))), b_.getStringAttr(name), extents,
        constants, b_.getStringAttr(StringRef(element.data(), element.size())),
        role == proto::Buffer::TENSOR ? FlatSymbolRefAttr::get(b_.getContext(), name)
                                      : FlatSymbolRefAttr(),
        zeroed ? b_.getUnitAttr() : UnitAttr(), Value());
  }));
  return static_cast<int>(buffers_.size()) - 1;
}

int ProgramBuilder::newBuffer(StringRef name, ElementType elem, ArrayRef<Extent> dims,
                              bool zeroed) {
  return addBuffer(proto::Buffer::TRANSIENT, name, elem, dims, zeroed);
}

int ProgramBuilder::roleBuffer(proto::Buffer::Role role, StringRef name, ElementType elem,
                               ArrayRef<Extent> dims) {
  bool named = role == proto::Buffer::TENSOR || role == proto::Buffer::REQUEST ||
               role == proto::Buffer::REQUEST_ROWS || role == proto::Buffer::REQUEST_SIZE ||
               role == proto::Buffer::LAST_QUERIES || role == proto::Buffer::LAST_POSITIONS;
  // Of an artefact about the model a layer may read all of it, and its own part.
  std::string tensor = role == proto::Buffer::TENSOR ? (name + "/" + Twine(dims.size())).str()
                       : named                       ? name.str()
                                                     : "";
  auto [it, fresh] = roleBuffers_.try_emplace({role, tensor}, -1);
  if (fresh) {
    it->second = addBuffer(role, name, elem, dims, /*zeroed=*/false);
  }
  return it->second;
}

Extent ProgramBuilder::tensorExtent(StringRef tensor, int64_t dim) {
  auto [it, fresh] = tensorExtents_.try_emplace({tensor.str(), dim}, -1);
  if (fresh) {
    it->second = addSlot(proto::SlotBinding::TENSOR_EXTENT,
                         FlatSymbolRefAttr::get(b_.getContext(), tensor), b_.getI64IntegerAttr(dim));
  }
  return Extent::inSlot(it->second);
}

std::string ProgramBuilder::carry(int buffer, StringRef tensor) {
  auto op = buffers_[buffer].getDefiningOp<BufferOp>();
  if (std::optional<StringRef> known = op.getTensor()) {
    auto declared = executable_.lookupSymbol<ExecTensorOp>(*known);
    return declared.getCarried() ? known->str() : std::string();
  }
  if (op.getRole() != "transient" || op.getZeroed()) {
    return {};
  }
  OpBuilder b(program_);
  ExecTensorOp::create(b, loc_, b.getStringAttr(tensor), b.getDenseI64ArrayAttr({}), op.getElementAttr(),
                       UnitAttr(), b.getUnitAttr(), ArrayAttr());
  op.setRole("tensor");
  op.setTensorAttr(FlatSymbolRefAttr::get(b.getContext(), tensor));
  return tensor.str();
}

bool ProgramBuilder::hand(int buffer, proto::Buffer::Role role) {
  auto op = buffers_[buffer].getDefiningOp<BufferOp>();
  bool free = op.getRole() == "transient";
  if (free) {
    op.setRole(wordOf(proto::Buffer::Role_Name(role)));
  }
  return free;
}

SmallVector<int64_t> ProgramBuilder::staticExtents(int buffer) {
  return llvm::to_vector(buffers_[buffer].getDefiningOp<BufferOp>().getStaticExtents());
}

FlatSymbolRefAttr ProgramBuilder::nameOf(int store) {
  auto stores = executable_.getBody().getOps<ExecStoreOp>();
  return FlatSymbolRefAttr::get((*std::next(stores.begin(), store)).getSymNameAttr());
}

void ProgramBuilder::storeChanged(int store) {
  for (auto it = measured_.begin(); it != measured_.end();) {
    it = it->first.first == store ? measured_.erase(it) : std::next(it);
  }
}

Extent ProgramBuilder::storeRows(int store, int64_t divideUp) {
  auto [it, fresh] = measured_.try_emplace({store, divideUp}, -1);
  if (fresh) {
    it->second = newSlot();
    StoreRowsOp::create(b_, loc_, nameOf(store), b_.getI64IntegerAttr(divideUp),
                        slots_[it->second]);
  }
  return Extent::inSlot(it->second);
}

void ProgramBuilder::reserve(int store, Extent rows) {
  SmallVector<Value> values;
  DenseI64ArrayAttr constants = split(rows, values);
  ReserveOp::create(b_, loc_, nameOf(store), values, constants);
  storeChanged(store);
}

void ProgramBuilder::truncate(int store, Extent rows) {
  SmallVector<Value> values;
  DenseI64ArrayAttr constants = split(rows, values);
  TruncateOp::create(b_, loc_, nameOf(store), values, constants, Value());
  storeChanged(store);
}

void ProgramBuilder::truncateRagged(int store, int lengthsBuffer) {
  TruncateOp::create(b_, loc_, nameOf(store), ValueRange(), b_.getDenseI64ArrayAttr({}),
                     buffers_[lengthsBuffer]);
  storeChanged(store);
}

void ProgramBuilder::beginCode(int store, StringRef column, int due, int dueRowsSlot) {
  BeginCodeOp::create(b_, loc_, nameOf(store), b_.getStringAttr(column), buffers_[due],
                      slots_[dueRowsSlot]);
}

void ProgramBuilder::endCode(int store, StringRef column, int due) {
  EndCodeOp::create(b_, loc_, nameOf(store), b_.getStringAttr(column), buffers_[due]);
}

void ProgramBuilder::guarded(int slot, llvm::function_ref<void()> body) {
  auto guard = GuardOp::create(b_, loc_, slots_[slot]);
  {
    OpBuilder::InsertionGuard restore(b_);
    b_.setInsertionPointToEnd(&guard.getBody().emplaceBlock());
    body();
  }
  // What was measured inside may not have been: forget it.
  measured_.clear();
}

Extent ProgramBuilder::fetch(int buffer, int64_t index) {
  int slot = newSlot();
  FetchOp::create(b_, loc_, buffers_[buffer], b_.getI64IntegerAttr(index), slots_[slot]);
  return Extent::inSlot(slot);
}

void ProgramBuilder::finish() {
  if (ranked_ >= 0) {
    RankedOp::create(b_, loc_, buffers_[ranked_], Value(), Value(), Value());
  }
}

void ProgramBuilder::setSource(ArrayRef<Operation *> ops) {
  OpBuilder b(b_.getContext());
  source_ = OutlineOp::create(b, loc_, "source");
  Block &block = source_->getBody().emplaceBlock();
  b.setInsertionPointToEnd(&block);
  IRMapping mapping;
  for (Operation *op : ops) {
    op->walk([&](Operation *inner) {
      for (Value operand : inner->getOperands()) {
        Operation *definition = operand.getDefiningOp();
        Operation *around = operand.getParentBlock()->getParentOp(); // none: scalars of our own
        if ((around && op->isAncestor(around)) || mapping.contains(operand)) {
          continue;
        }
        if (definition && definition->hasTrait<OpTrait::ConstantLike>()) {
          b.clone(*definition, mapping);
        } else {
          mapping.map(operand, block.addArgument(operand.getType(), loc_));
        }
      }
    });
    b.clone(*op, mapping);
  }
}

/// A kernel that no op of the method wrote (a read for export, a table) has an empty outline.
void ProgramBuilder::outline(StringRef kernel) {
  if (!source_) {
    setSource({});
  }
  OpBuilder b(executable_);
  auto outline = cast<OutlineOp>(b.clone(**source_));
  outline.setSymName(kernel);
}

LaunchOp ProgramBuilder::launch(const EmittedKernel &kernel, const KernelOperands &operands,
                                ArrayRef<std::string> ops, StringRef phase, bool writesSlots) {
  auto find = [&](const auto &map, StringRef name, StringRef what) {
    auto found = map.find(name);
    if (found == map.end()) {
      llvm::report_fatal_error(llvm::Twine("kernel ") + kernel.name + " has no " + what + " for '" +
                               name + "'");
    }
    return found->second;
  };
  SmallVector<Extent> grid;
  for (const std::string &dim : kernel.grid) {
    int64_t number = 0;
    if (dim == "heads") {
      grid.push_back(Extent::of(operands.heads));
    } else if (!StringRef(dim).getAsInteger(10, number)) {
      grid.push_back(Extent::of(number));
    } else {
      grid.push_back(find(operands.words, dim, "value"));
    }
  }
  SmallVector<Value> gridSlots, buffers, words;
  DenseI64ArrayAttr gridConstants = split(grid, gridSlots);
  SmallVector<Attribute> args;
  for (const KernelArg &arg : kernel.args) {
    switch (arg.kind) {
    case KernelArg::Kind::Buffer:
      buffers.push_back(buffers_[find(operands.buffers, arg.name, "buffer")]);
      args.push_back(b_.getUnitAttr());
      break;
    case KernelArg::Kind::Store:
      args.push_back(nameOf(find(operands.stores, arg.name, "store")));
      break;
    case KernelArg::Kind::Scalars:
      for (const std::string &name : kernel.words) {
        words.push_back(slots_[slotOf(find(operands.words, name, "value"))]);
      }
      args.push_back(b_.getI64IntegerAttr(static_cast<int64_t>(kernel.words.size())));
      break;
    }
  }
  outline(kernel.name);
  return LaunchOp::create(b_, loc_, FlatSymbolRefAttr::get(b_.getContext(), kernel.name), gridSlots,
                          gridConstants, buffers, words, b_.getArrayAttr(args),
                          writesSlots ? b_.getUnitAttr() : UnitAttr(), ArrayAttr(), Value(),
                          b_.getStrArrayAttr(SmallVector<StringRef>(ops.begin(), ops.end())),
                          b_.getStringAttr("fused"), b_.getStringAttr(phase), StringAttr(),
                          StringAttr(), StringAttr(), IntegerAttr(), IntegerAttr());
}

void ProgramBuilder::reads(LaunchOp launch, int store, StringRef column) {
  SmallVector<Attribute> columns;
  if (launch.getReads()) {
    llvm::append_range(columns, *launch.getReads());
  }
  Attribute read =
      SymbolRefAttr::get(nameOf(store).getAttr(), FlatSymbolRefAttr::get(b_.getContext(), column));
  if (!llvm::is_contained(columns, read)) {
    columns.push_back(read);
    launch.setReadsAttr(b_.getArrayAttr(columns));
  }
}

} // namespace mlir::kvcache::cpu
