// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text and checks of executables as IR. Markers C1.. refer to ScheduleOps.td. Words for roles and
// kinds are the names of the enumerators of runtime/abi/executable.proto in lower case.

#include "dialect/ScheduleOps.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/Syntax.h"
#include "runtime/abi/StorageTerm.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache {

using ::kvcache::abi::ElementType;

static constexpr StringLiteral programKinds[] = {"prefill",      "ingest",       "decode",
                                                 "prompt_score", "prompt_model", "prompt_end",
                                                 "step_end",     "attend",       "read",
                                                 "calibrate",    "probe",        "draft_end",
                                                 "calibrate_model"};
static constexpr StringLiteral slotRoles[] = {"none",   "length",  "layer",      "layers",
                                              "budget", "rows",    "store_rows", "window_rows",
                                              "seed",   "constant", "prompt_length", "step", "tensor_extent",
                                              "draft_rows"};
static constexpr StringLiteral bufferRoles[] = {
    "transient", "query", "key",          "value",          "key_pre", "positions",
    "out",       "lse",   "last_queries", "last_positions", "tensor",  "rope_inv_freq",
    "request", "request_rows", "request_size", "ids", "draft_queries", "draft_positions",
    "passed",    "passed_rows"};

bool isSlotType(Type type) {
  auto memref = dyn_cast<MemRefType>(type);
  return memref && memref.getRank() == 0 && memref.getElementType().isSignlessInteger(64);
}

bool isBufferType(Type type) {
  auto memref = dyn_cast<MemRefType>(type);
  return memref && memref.getRank() == 1 && memref.isDynamicDim(0) &&
         memref.getElementType().isSignlessInteger(8);
}

/// Integer attributes are read as unsigned; every number here is signed.
static int64_t signedOf(uint64_t value) { return static_cast<int64_t>(value); }

static bool isElement(StringRef name) {
  ElementType type;
  return ::kvcache::abi::elementTypeFromName({name.data(), name.size()}, type);
}

/// The symbol of the executable around `op`, when it is of this kind.
template <typename Op>
static Op lookup(Operation *op, StringRef name) {
  return dyn_cast_or_null<Op>(
      SymbolTable::lookupSymbolIn(op->getParentOfType<ExecutableOp>(), name));
}

static LogicalResult checkStore(Operation *op, StringRef store) {
  return lookup<ExecStoreOp>(op, store) ? success()
                                        : op->emitOpError() << "names no store '@" << store << "'";
}

static LogicalResult checkColumn(Operation *op, StringRef store, StringRef column) {
  if (failed(checkStore(op, store))) {
    return failure();
  }
  return lookup<ExecStoreOp>(op, store).getColumnIndex(column) >= 0
             ? success()
             : op->emitOpError() << "names no column '" << column << "' of store '@" << store
                                 << "'";
}

/// One number of rows, a slot or at least 0.
static LogicalResult checkRows(Operation *op, ArrayRef<int64_t> rows) {
  return rows.size() == 1 && (ShapedType::isDynamic(rows[0]) || rows[0] >= 0)
             ? success()
             : op->emitOpError("expects one number of rows, at least 0");
}

// ---- the executable ----

LogicalResult ExecutableOp::verify() {
  auto extents = {signedOf(getLayers()), signedOf(getQueryHeads()), signedOf(getKvHeads()),
                  signedOf(getHeadDim())};
  if (std::min(extents) < 1 || getQueryHeads() % getKvHeads() != 0) { // C1
    return emitOpError(
        "expects extents of at least 1, and query heads that are a multiple of the KV heads");
  }
  if (!isElement(getAct())) { // C2
    return emitOpError() << "expects an element type as act, got '" << getAct() << "'";
  }
  int64_t frequencies = getRopeInvFreq() ? static_cast<int64_t>(getRopeInvFreq()->size()) : 0;
  if (frequencies != 0 && frequencies != signedOf(getHeadDim()) / 2) { // C3
    return emitOpError() << "expects " << getHeadDim() / 2 << " RoPE frequencies, got "
                         << frequencies;
  }
  bool drafts = llvm::any_of(getBody().getOps<ProgramOp>(),
                             [](ProgramOp program) { return program.getKind() == "draft_end"; });
  if (drafts != (getDraftSteps().value_or(0) > 0)) { // C4
    return emitOpError() << "expects draft_steps with a program draft_end alone";
  }
  return success();
}

int64_t ExecStoreOp::getColumnIndex(StringRef name) {
  for (auto [index, column] : llvm::enumerate(getColumns().getOps<ExecColumnOp>())) {
    if (column.getName() == name) {
      return static_cast<int64_t>(index);
    }
  }
  return -1;
}

LogicalResult ExecStoreOp::verify() {
  auto columns = getColumns().getOps<ExecColumnOp>();
  if (signedOf(getHeads()) < 1 || columns.empty()) { // C1
    return emitOpError("expects a row head and a column at least");
  }
  llvm::StringSet<> names;
  for (ExecColumnOp column : columns) {
    if (!names.insert(column.getName()).second) { // C2
      return emitOpError() << "has two columns '" << column.getName() << "'";
    }
  }
  return success();
}

LogicalResult ExecColumnOp::verify() {
  if (signedOf(getWidth()) < 1) { // C1
    return emitOpError() << "expects a width of at least 1, got " << signedOf(getWidth());
  }
  std::string error;
  if (!::kvcache::abi::parseStorageTerm({getStorage().data(), getStorage().size()}, error)) { // C2
    return emitOpError() << "expects a storage term, got '" << getStorage() << "': " << error;
  }
  return success();
}

LogicalResult ExecTensorOp::verify() {
  ElementType type;
  if (!::kvcache::abi::elementTypeFromName({getElement().data(), getElement().size()}, type) ||
      llvm::any_of(getExtents(), [](int64_t extent) { return extent < 1; })) { // C1
    return emitOpError("expects an element type and extents of at least 1");
  }
  if (getCarried() && (!getExtents().empty() || getArtefact() || getValues())) { // C3
    return emitOpError("is carried, and expects no extents and no values");
  }
  if (!getValues()) {
    return success();
  }
  int64_t bytes = ::kvcache::abi::bytesOf(type),
          layers = signedOf((*this)->getParentOfType<ExecutableOp>().getLayers());
  for (int64_t extent : getExtents()) {
    bytes *= extent;
  }
  if (static_cast<int64_t>(getValues()->size()) != layers ||
      llvm::any_of(*getValues(), [&](Attribute values) { // C2
        auto elements = dyn_cast<ElementsAttr>(values);
        return !elements || !elements.getElementType().isInteger(8) ||
               elements.getNumElements() != bytes;
      })) {
    return emitOpError() << "expects " << bytes << " bytes as i8 for each of " << layers
                         << " layers";
  }
  return success();
}

// ---- programs ----

LogicalResult ProgramOp::verify() {
  if (!llvm::is_contained(programKinds, getKind())) { // C1
    return emitOpError() << "has no known kind: '" << getKind() << "'";
  }
  bool reads = getKind() == "attend" || getKind() == "read" || getKind() == "prompt_score" ||
               getKind() == "prompt_model" || getKind() == "calibrate_model";
  if (getSource().has_value() != getSizes().has_value() ||
      (getSource() && getKind() != "calibrate")) { // C4
    return emitOpError("expects source and sizes together, of a program calibrate");
  }
  WalkResult result = walk([&](Operation *op) {
    if (isa<SlotOp, BufferOp>(op) && op->getParentOp() != *this) { // C2
      return op->emitOpError("expects to stand outside guards"), WalkResult::interrupt();
    }
    if (reads && isa<ReserveOp, TruncateOp, BeginCodeOp, EndCodeOp>(op)) { // C3
      return op->emitOpError("changes a store in a program that only reads"),
             WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

void SlotOp::getAsmResultNames(function_ref<void(Value, StringRef)> setName) {
  setName(getSlot(), getRole() == "constant" ? ("c" + Twine(signedOf(*getValue()))).str()
                     : getRole() == "none" ? StringRef("s").str()
                                           : getRole().str());
}

LogicalResult SlotOp::verify() {
  if (!llvm::is_contained(slotRoles, getRole())) { // C1
    return emitOpError() << "has no known role: '" << getRole() << "'";
  }
  bool extent = getRole() == "tensor_extent", rows = getRole() == "store_rows";
  if ((rows || extent) != getSource().has_value() ||
      ((getRole() == "constant" || extent) != getValue().has_value() &&
       getRole() != "window_rows")) { // C2
    return emitOpError("expects a source with the roles store_rows and tensor_extent alone, and a "
                       "value with the roles constant, tensor_extent and window_rows alone");
  }
  if (rows) { // C2
    return checkStore(*this, *getSource());
  }
  auto tensor = extent ? lookup<ExecTensorOp>(*this, *getSource()) : ExecTensorOp();
  return !extent || (tensor && tensor.getCarried() && signedOf(*getValue()) >= 0)
             ? success()
             : emitOpError() << "names no extent of a carried tensor: '@" << *getSource() << "', "
                             << signedOf(*getValue());
}

void BufferOp::getAsmResultNames(function_ref<void(Value, StringRef)> setName) {
  setName(getBuffer(), getName());
}

LogicalResult BufferOp::verify() {
  if (!llvm::is_contained(bufferRoles, getRole()) || !isElement(getElement()) ||
      llvm::any_of(getStaticExtents(), [](int64_t extent) {
        return extent < 0 && !ShapedType::isDynamic(extent);
      })) { // C1
    return emitOpError("expects a known role, a known element type and extents of at least 0");
  }
  if ((getRole() == "tensor") != getTensor().has_value() ||
      (getTensor() && !lookup<ExecTensorOp>(*this, *getTensor()))) { // C2
    return emitOpError("expects a persistent tensor that exists with the role tensor alone");
  }
  if (Value memory = getMemory()) { // C3
    auto owner = memory.getDefiningOp<BufferOp>();
    if (getRole() != "transient" || !owner || owner.getRole() != "transient" || owner.getMemory()) {
      return emitOpError("expects to be in a transient buffer with memory of its own");
    }
  }
  return success();
}

// ---- steps ----

static ParseResult parseLaunchArgs(OpAsmParser &parser,
                                   SmallVectorImpl<OpAsmParser::UnresolvedOperand> &buffers,
                                   SmallVectorImpl<OpAsmParser::UnresolvedOperand> &words,
                                   ArrayAttr &args) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    FlatSymbolRefAttr store;
    if (parser.parseOptionalAttribute(store).has_value()) {
      list.push_back(store);
      return success(static_cast<bool>(store));
    }
    size_t before = words.size();
    if (succeeded(parser.parseOptionalLSquare())) {
      if (parser.parseOperandList(words) || parser.parseRSquare()) {
        return failure();
      }
      list.push_back(
          parser.getBuilder().getI64IntegerAttr(static_cast<int64_t>(words.size() - before)));
      return success();
    }
    list.push_back(parser.getBuilder().getUnitAttr());
    return parser.parseOperand(buffers.emplace_back());
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne)) {
    return failure();
  }
  args = parser.getBuilder().getArrayAttr(list);
  return success();
}

static void printLaunchArgs(OpAsmPrinter &printer, Operation *, OperandRange buffers,
                            OperandRange words, ArrayAttr args) {
  printer << '(';
  llvm::interleaveComma(args, printer, [&](Attribute arg) {
    if (auto count = dyn_cast<IntegerAttr>(arg)) {
      printer << '[';
      printer.printOperands(words.take_front(count.getInt()));
      printer << ']';
      words = words.drop_front(count.getInt());
    } else if (isa<FlatSymbolRefAttr>(arg)) {
      printer << arg;
    } else {
      printer << buffers.front();
      buffers = buffers.drop_front();
    }
  });
  printer << ')';
}

/// The columns of `reads` exist.
static LogicalResult checkReads(LaunchOp launch) {
  for (Attribute read : launch.getReads().value_or(ArrayAttr::get(launch.getContext(), {}))) {
    auto column = dyn_cast<SymbolRefAttr>(read);
    if (!column || column.getNestedReferences().size() != 1) {
      return launch.emitOpError("expects columns as @store::@column in reads");
    }
    if (failed(checkColumn(launch, column.getRootReference(), column.getLeafReference()))) {
      return failure();
    }
  }
  return success();
}

/// The kernel is there, and takes what it is given.
static LogicalResult checkKernel(LaunchOp launch, int64_t pointers) {
  auto executable = launch->getParentOfType<ExecutableOp>();
  Operation *around = executable->getParentOp();
  Operation *kernel = around && around->hasTrait<OpTrait::SymbolTable>()
                          ? SymbolTable::lookupSymbolIn(around, launch.getKernel())
                          : nullptr;
  if (!kernel && executable.getBody().getOps<ExecCodeOp>().empty()) { // C1
    return launch.emitOpError() << "names no kernel '@" << launch.getKernel()
                                << "' of the module or of code";
  }
  auto function = dyn_cast_or_null<FunctionOpInterface>(kernel);
  if (function && function.getNumArguments() != pointers + 1) { // C2
    return launch.emitOpError() << "passes " << pointers << " pointers to a kernel of "
                                << function.getNumArguments()
                                << " arguments, the task number among them";
  }
  return success();
}

LogicalResult LaunchOp::verify() {
  int64_t buffers = 0, words = 0, pointers = 0;
  for (Attribute arg : getArgs()) {
    if (auto store = dyn_cast<FlatSymbolRefAttr>(arg)) { // C3
      if (failed(checkStore(*this, store.getValue()))) {
        return failure();
      }
      pointers += 2;
      continue;
    }
    auto count = dyn_cast<IntegerAttr>(arg);
    if (!count && !isa<UnitAttr>(arg)) {
      return emitOpError("expects buffers, stores and counts of words as args");
    }
    (count ? words : buffers) += count ? count.getInt() : 1;
    pointers += 1;
  }
  if (buffers != static_cast<int64_t>(getBuffers().size()) ||
      words != static_cast<int64_t>(getWords().size())) { // C4
    return emitOpError() << "describes " << buffers << " buffers and " << words
                         << " words as args, got " << getBuffers().size() << " and "
                         << getWords().size();
  }
  return failure(failed(checkReads(*this)) || failed(checkKernel(*this, pointers)));
}

LogicalResult ReserveOp::verify() { // C1, C2
  return failure(failed(checkStore(*this, getStore())) ||
                 failed(checkRows(*this, getStaticRows())));
}

static bool holds(Value buffer, StringRef element) {
  auto op = buffer.getDefiningOp<BufferOp>();
  return op && op.getElement() == element;
}

LogicalResult TruncateOp::verify() {
  if (failed(checkStore(*this, getStore()))) { // C1
    return failure();
  }
  if (Value lengths = getLengths()) { // C2
    return getStaticRows().empty() && holds(lengths, "i32")
               ? success()
               : emitOpError("expects a number of rows or lengths of type i32, not both");
  }
  return checkRows(*this, getStaticRows());
}

LogicalResult BeginCodeOp::verify() {
  if (!holds(getDue(), "i64")) { // C2
    return emitOpError("expects due rows of type i64");
  }
  return checkColumn(*this, getStore(), getColumn()); // C1
}

LogicalResult EndCodeOp::verify() { return checkColumn(*this, getStore(), getColumn()); } // C1

LogicalResult StoreRowsOp::verify() {
  if (signedOf(getDivideUp()) < 1) { // C2
    return emitOpError() << "expects a divisor of at least 1, got " << signedOf(getDivideUp());
  }
  return checkStore(*this, getStore()); // C1
}

LogicalResult FetchOp::verify() { // C1
  return holds(getBuffer(), "i32") ? success()
                                   : emitOpError("expects a buffer with elements of type i32");
}

void registerScheduleOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/ScheduleOps.cpp.inc"
      >(dialect);
}

} // namespace mlir::kvcache

#define GET_OP_CLASSES
#include "dialect/ScheduleOps.cpp.inc"
