// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Outer structure of a nest kernel: which results are roots, the grid their common outer axes make,
// the loops over the axes of dense roots, the argument list.

#include "targets/cpu/NestEmitter.h"

#include "runtime/abi/KernelAbi.h"
#include "targets/cpu/NestBody.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

void NestBody::raise(int32_t status) { k.store(k.i32(status), status_, k.index(0)); }

Value NestBody::status() { return k.load(status_, k.index(0)); }

void NestBody::makeStatus() {
  auto type = MemRefType::get({1}, k.i32Type());
  status_ = memref::AllocaOp::create(k.builder(), k.loc(), type);
  k.store(k.i32(KVCACHE_KERNEL_OK), status_, k.index(0));
}

namespace {

/// Results that are written together: one special op, or dense outputs of equal axes whose only
/// links are maps.
struct Root {
  Operation *special = nullptr; ///< an op that writes its results in loops of its own
  std::vector<Value> dense;
  std::vector<AxisAttr> axes; ///< axes that loops (or the grid) run over
  bool vectorLast = false;    ///< dense: lanes run along the last axis
  std::string scratch;        ///< topk, sort, select.alloc global_topk: the keys
};

/// Everything one attempt at emission needs.
class Emission {
public:
  Emission(const NestKernel &spec, bool useGrid) : spec_(spec), useGrid_(useGrid) {}
  LogicalResult prepare();
  bool emit(ModuleOp module, bool quiet);
  NestResult result;
  size_t gridSize() const { return grid_.size(); }

private:
  void findRoots();
  void findGrid();
  void findArguments();
  void addDense(Operation *op, Value value);
  bool linkedByMaps(Value value, const Root &root) const;
  void addWord(const NestExtent &extent);
  void addArg(const KernelArg &arg);
  NestExtent capacityOf(Value value, unsigned axis) const;
  void emitRoot(NestBody &body, const Root &root, size_t level, const Point &point);
  void emitInner(NestBody &body, const Root &root, const Point &point);

  const NestKernel &spec_;
  bool useGrid_;
  std::vector<Root> roots_;
  std::vector<AxisAttr> grid_;
  std::vector<NestExtent> gridExtents_;
};

} // namespace

static const NestOperand *find(ArrayRef<NestOperand> operands, Value value) {
  for (const NestOperand &operand : operands) {
    if (operand.value == value) {
      return &operand;
    }
  }
  return nullptr;
}

/// Axes with few elements over which tasks are spread rather than lanes.
static bool isOuterKind(AxisAttr axis) {
  return axis.getKind() == "head" || axis.getKind() == "layer" || axis.getKind() == "group";
}

// ---- roots
// ----------------------------------------------------------------------------------------------------------

bool Emission::linkedByMaps(Value value, const Root &root) const {
  // True when whatever path leads from `value` to an output of `root` passes maps only.
  Operation *op = value.getDefiningOp();
  if (!op || llvm::is_contained(root.dense, value)) {
    return true;
  }
  return llvm::all_of(op->getOperands(), [&](Value operand) {
    SmallVector<Value> open{operand};
    llvm::DenseSet<Value> seen;
    bool reaches = false;
    while (!open.empty()) {
      Value next = open.pop_back_val();
      if (find(spec_.inputs, next) || !seen.insert(next).second) {
        continue;
      }
      reaches |= llvm::is_contained(root.dense, next);
      if (Operation *from = next.getDefiningOp()) {
        llvm::append_range(open, from->getOperands());
      }
    }
    return !reaches || (isa<MapOp>(op) && linkedByMaps(operand, root));
  });
}

void Emission::addDense(Operation *op, Value value) {
  ArrayRef<AxisAttr> axes = axesOf(value);
  if (!roots_.empty() && !roots_.back().special && ArrayRef<AxisAttr>(roots_.back().axes) == axes &&
      linkedByMaps(value, roots_.back())) {
    roots_.back().dense.push_back(value);
    return;
  }
  Root root;
  root.dense.push_back(value);
  root.axes.assign(axes.begin(), axes.end());
  root.vectorLast = !axes.empty() && !isOuterKind(axes.back());
  roots_.push_back(root);
}

/// The axes over which a special op is repeated.
static SmallVector<AxisAttr> leadingAxes(Operation *op) {
  if (auto topk = dyn_cast<TopkOp>(op)) {
    return without(axesOf(topk.getInput()), ArrayRef<StringRef>{topk.getAxis()});
  }
  if (auto sort = dyn_cast<SortOp>(op)) {
    return without(axesOf(sort.getInput()), ArrayRef<StringRef>{sort.getAxis()});
  }
  if (auto scan = dyn_cast<ScanOp>(op)) {
    return without(axesOf(scan.getInput()), ArrayRef<StringRef>{scan.getAxis()});
  }
  if (auto concat = dyn_cast<ConcatOp>(op)) {
    return without(axesOf(concat.getOutput()), ArrayRef<StringRef>{concat.getAxis()});
  }
  if (auto blocks = dyn_cast<BlocksOp>(op)) {
    // Without the axis of the blocks, and the last one: lanes run along that.
    SmallVector<AxisAttr> lead(axesOf(blocks.getOutput()).drop_back());
    unsigned place = *findAxisIndex(axesOf(blocks.getInput()), blocks.getAxis());
    if (place < lead.size()) {
      lead.erase(lead.begin() + place);
    }
    return lead;
  }
  if (auto scatter = dyn_cast<ScatterOp>(op)) {
    auto index = cast<IndexSetType>(scatter.getAt().getType());
    SmallVector<AxisAttr> lead;
    for (AxisAttr axis : axesOf(scatter.getInto())) {
      if (findAxis(index.getAxes(), axis.getName())) {
        lead.push_back(axis);
      }
    }
    return lead;
  }
  if (auto eigh = dyn_cast<EighOp>(op)) {
    return SmallVector<AxisAttr>(axesOf(eigh.getMatrix()).drop_back(2));
  }
  if (isa<SelectAllocOp>(op)) {
    return {};
  }
  return SmallVector<AxisAttr>(axesOf(op->getResult(0)).drop_back()); // indices of a selection
}

/// Ops that write their results in loops of their own.
static bool isSpecial(Operation *op) {
  return isa<TopkOp, SelectWhereOp, SelectComplementOp, SelectUnionOp, SelectExpandOp, SelectFitOp,
             SelectAllocOp, SortOp, ScanOp, ConcatOp, BlocksOp, ScatterOp, EighOp>(op);
}

/// What an op keeps keys of in a scratch; null when nothing.
static Value keyedOperand(Operation *op) {
  auto alloc = dyn_cast<SelectAllocOp>(op);
  bool keyed = isa<TopkOp, SortOp>(op) || (alloc && alloc.getRule() == "global_topk");
  return keyed ? op->getOperand(0) : Value();
}

void Emission::findRoots() {
  for (Operation *op : spec_.ops) {
    if (isSpecial(op)) {
      Root root;
      root.special = op;
      SmallVector<AxisAttr> lead = leadingAxes(op);
      root.axes.assign(lead.begin(), lead.end());
      if (Value keyed = keyedOperand(op)) {
        root.scratch = "keys" + std::to_string(result.scratch.size());
        NestScratch scratch{root.scratch, abi::ElementType::I32, {}};
        for (unsigned i = 0; i < axesOf(keyed).size(); ++i) {
          scratch.dims.push_back(capacityOf(keyed, i));
        }
        if (isa<SortOp>(op)) {
          scratch.dims.push_back(NestExtent::of(2));
        }
        result.scratch.push_back(scratch);
      }
      roots_.push_back(root);
      continue;
    }
    for (Value value : op->getResults()) {
      if (find(spec_.outputs, value)) {
        addDense(op, value);
      }
    }
  }
}

LogicalResult Emission::prepare() {
  for (Operation *op : spec_.ops) {
    bool special = isSpecial(op);
    for (Value value : op->getResults()) {
      const NestOperand *output = find(spec_.outputs, value);
      if (special && !output) {
        return op->emitError("cpu: expected a buffer for every result of '")
               << op->getName() << "'";
      }
      bool ragged = isa<TopkOp, SelectWhereOp, SelectComplementOp, SelectUnionOp, SelectExpandOp,
                        SelectFitOp>(op);
      if (ragged && (output->axes.empty() || output->axes.back().lengths.empty())) {
        return op->emitError("cpu: expected a buffer for the lengths of an index set");
      }
    }
  }
  findRoots();
  findGrid();
  findArguments();
  return success();
}

// ---- grid and arguments
// ---------------------------------------------------------------------------------------------

/// Capacity without a function to emit into: through the ops, as NestBody::capacityOf.
NestExtent Emission::capacityOf(Value value, unsigned place) const {
  return staticCapacity(spec_, value, axesOf(value)[place].getName());
}

void Emission::findGrid() {
  if (!useGrid_ || roots_.empty()) {
    return;
  }
  auto outer = [](const Root &root) {
    return ArrayRef<AxisAttr>(root.axes).drop_back(root.vectorLast ? 1 : 0);
  };
  ArrayRef<AxisAttr> common = outer(roots_.front());
  for (const Root &root : roots_) {
    size_t same = 0;
    while (same < common.size() && same < outer(root).size() &&
           common[same].getName() == outer(root)[same].getName()) {
      ++same;
    }
    common = common.take_front(same);
  }
  const Root &first = roots_.front();
  Value shape = first.special ? first.special->getResult(0) : first.dense.front();
  for (AxisAttr axis : common) {
    if (isRagged(spec_, shape, axis.getName())) {
      break;
    }
    grid_.push_back(axis);
    gridExtents_.push_back(staticCapacity(spec_, shape, axis.getName()));
  }
}

void Emission::addArg(const KernelArg &arg) {
  for (const KernelArg &known : result.kernel.args) {
    if (known.name == arg.name) {
      return;
    }
  }
  result.kernel.args.push_back(arg);
}

void Emission::addWord(const NestExtent &extent) {
  if (!extent.word.empty() && !llvm::is_contained(result.kernel.words, extent.word)) {
    result.kernel.words.push_back(extent.word);
  }
}

void Emission::findArguments() {
  result.kernel.name = spec_.name;
  for (ArrayRef<NestOperand> operands :
       {ArrayRef<NestOperand>(spec_.inputs), ArrayRef<NestOperand>(spec_.outputs)}) {
    for (const NestOperand &operand : operands) {
      Type type = operand.value.getType();
      if (isa<CacheType>(type)) {
        addArg(KernelArg::store(operand.arg));
      } else if (isa<AxisTensorType, IndexSetType>(type)) {
        addArg(KernelArg::buffer(operand.arg, operand.elem));
      } else {
        addWord(NestExtent::inWord(operand.arg));
      }
      for (const NestAxis &axis : operand.axes) {
        addWord(axis.capacity);
        if (!axis.lengths.empty()) {
          addArg(KernelArg::buffer(axis.lengths, abi::ElementType::I32));
        }
        if (!axis.store.empty()) {
          addArg(KernelArg::store(axis.store));
        }
      }
    }
  }
  for (const NestScratch &scratch : result.scratch) {
    addArg(KernelArg::buffer(scratch.arg, scratch.elem));
  }
  if (!result.kernel.words.empty()) {
    addArg(KernelArg::scalars("scalars"));
  }
  for (const NestExtent &extent : gridExtents_) {
    result.kernel.grid.push_back(extent.word.empty() ? std::to_string(extent.constant)
                                                     : extent.word);
  }
  for (Operation *op : spec_.ops) {
    result.ops.push_back(op->getName().getStringRef().str());
  }
}

// ---- loops
// ----------------------------------------------------------------------------------------------------------

void Emission::emitInner(NestBody &body, const Root &root, const Point &point) {
  if (root.special) {
    llvm::TypeSwitch<Operation *>(root.special)
        .Case([&](TopkOp op) { emitTopk(body, op, point, root.scratch); })
        .Case([&](SelectAllocOp op) {
          op.getRule() == "proportional" ? emitShares(body, op) : emitAlloc(body, op, root.scratch);
        })
        .Case([&](SelectUnionOp op) { emitUnion(body, op, point); })
        .Case([&](SelectExpandOp op) { emitExpand(body, op, point); })
        .Case([&](SelectFitOp op) { emitFit(body, op, point); })
        .Case([&](SortOp op) { emitSort(body, op, point, root.scratch); })
        .Case([&](ScanOp op) { emitScan(body, op, point); })
        .Case([&](ConcatOp op) { emitConcat(body, op, point); })
        .Case([&](BlocksOp op) { emitBlocks(body, op, point); })
        .Case([&](SelectWhereOp op) { emitWhere(body, op, point); })
        .Case([&](SelectComplementOp op) { emitComplement(body, op, point); })
        .Case([&](ScatterOp op) { emitScatter(body, op, point); })
        .Case([&](EighOp op) { emitEigh(body, op, point); });
    return;
  }
  for (Value value : root.dense) {
    Value computed = body.evaluate(value, point);
    body.storeAt(*body.outputFor(value), point, computed);
  }
}

void Emission::emitRoot(NestBody &body, const Root &root, size_t level, const Point &point) {
  KernelBuilder &k = body.k;
  if (root.special) {
    body.hoist(SmallVector<Value>(root.special->getOperands()), point);
  } else if (level < root.axes.size()) {
    body.hoist(root.dense, point);
  }
  if (level == root.axes.size()) {
    emitInner(body, root, point);
    return;
  }
  Value shape = root.special ? root.special->getResult(0) : root.dense.front();
  std::string axis = root.axes[level].getName();
  if (const AxisIndex *task = level < grid_.size() ? body.grid.find(axis) : nullptr) {
    emitRoot(body, root, level + 1, point.with(axis, *task));
    return;
  }
  Value count = body.bound(shape, axis, point);
  if (!root.special && root.vectorLast && level + 1 == root.axes.size()) {
    body.vectors(k.index(0), count, ValueRange{}, [&](Value start, Value mask, ValueRange) {
      Point at = point.with(axis, {AxisIndex::Kind::Contiguous, start, true});
      at.mask = mask;
      emitInner(body, root, at);
      return SmallVector<Value>{};
    });
    return;
  }
  body.loop(k.index(0), count, k.index(1), [&](Value iv) {
    emitRoot(body, root, level + 1, point.with(axis, {AxisIndex::Kind::Scalar, iv, false}));
  });
}

bool Emission::emit(ModuleOp module, bool quiet) {
  KernelBuilder k(module, spec_.name, result.kernel.args);
  auto function = cast<func::FuncOp>(module.getBody()->back());
  NestBody body(k, spec_);
  body.quiet = quiet;
  body.begin(result.kernel.words);
  SmallVector<Value> extents;
  for (const NestExtent &extent : gridExtents_) {
    extents.push_back(body.extentValue(extent));
  }
  for (auto [axis, index] : llvm::zip(grid_, k.splitTask(extents))) {
    body.grid.axes.emplace_back(axis.getName(), AxisIndex{AxisIndex::Kind::Scalar, index, false});
  }
  for (const Root &root : roots_) {
    emitRoot(body, root, 0, Point());
    SmallVector<Value> written(root.dense.begin(), root.dense.end());
    if (root.special) {
      llvm::append_range(written, root.special->getResults());
    }
    for (Value value : written) {
      body.markWritten(value);
    }
  }
  if (body.failed()) {
    function.erase();
    return false;
  }
  k.finish(body.status());
  return true;
}

FailureOr<NestResult> mlir::kvcache::cpu::emitNest(ModuleOp module, const NestKernel &kernel) {
  // First with one task per point of the outer axes; where results are read across tasks, with a
  // single task.
  for (bool useGrid : {true, false}) {
    Emission emission(kernel, useGrid);
    if (failed(emission.prepare())) {
      return failure();
    }
    bool last = !useGrid || emission.gridSize() == 0;
    if (emission.emit(module, /*quiet=*/!last)) {
      return std::move(emission.result);
    }
    if (last) {
      break;
    }
  }
  return failure();
}
