// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From the programs of a fused method to an executable: walks each program in order, gives values
// memory, emits the kernels they need and writes the steps that launch them.
//
// Where things live: scalars in slots, tensors and index sets in buffers (row-major in the order of
// their type's axes, floats as f32), caches in stores. A cache value is never copied: its versions
// share the store, which the linear use of caches allows.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "dialect/MethodOps.h"
#include "runtime/Execution.h"
#include "targets/cpu/Attend.h"
#include "targets/cpu/NestEmitter.h"
#include "targets/cpu/ProgramBuilder.h"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace mlir::kvcache {
class AppendOp;
class AttendOp;
class ExtentOp;
class GatherOp;
class KernelOp;
class RopeOp;
class ScoreReduceOp;
class SetColumnOp;
} // namespace mlir::kvcache

namespace mlir::kvcache::cpu {

/// One axis of a value in memory: its stride is made of `capacity`; where it is ragged, how long it
/// is.
struct AxisPlace {
  Extent capacity;
  int lengths = -1; ///< buffer i32 with a length for each point of lengthAxes
  int store = -1;   ///< or: the rows of the heads of this store
  std::vector<std::string> lengthAxes;
};

/// Where a tensor or an index set is.
struct TensorPlace {
  int buffer = -1;
  ::kvcache::abi::ElementType elem = ::kvcache::abi::ElementType::F32;
  /// The axes in the order they lie in memory (queries and keys of an event lie rows first).
  SmallVector<AxisAttr> axes;
  SmallVector<AxisPlace> places;
};

/// A state of the method as the executable holds it.
struct StorePlace {
  int index = -1;
  CacheType type;
  std::vector<::kvcache::abi::ColumnLayout> layouts;
  std::string name;
  std::vector<std::string> names; ///< of the columns
  int64_t heads = 1;   ///< row heads: the product of the row axes but token
  bool ragged = false; ///< heads may keep different rows; otherwise one row count serves all
  int column(StringRef name) const;
  /// Whether a column holds keys before RoPE, which readers see rotated to their cache index.
  bool isRopeView(int column) const;
  /// The token axis of this store, `rows` being its largest row count.
  AxisPlace tokenAxis(Extent rows) const;
  /// Whether one list of rows holds K and V of all heads, one head after the other.
  bool sharesRows() const;
};

/// A named result that crosses to later programs of the end of a prompt, as one layer has it.
struct CarriedPlace {
  std::string tensor; ///< of the executable
  ::kvcache::abi::ElementType elem = ::kvcache::abi::ElementType::F32;
  std::string lengthsTensor; ///< i32, the lengths of the last axis; empty: it has the same for all points
  SmallVector<int64_t> lengthDims;
  std::vector<std::string> lengthAxes;
};

/// What is the same for all programs of one executable.
struct ScheduleContext {
  MethodOp method;
  ::kvcache::rt::Geometry geometry;
  ExecutableOp executable; ///< in a module of the `planned` stage
  ModuleOp kernels; ///< receives the emitted kernels
  std::map<std::string, StorePlace> stores = {};
  std::set<std::string> tensors = {}; ///< artefacts by name
  bool integerProducts = false;       ///< AttendSpec::integerProducts
  bool wideRegisters = true;          ///< 32 vector registers of 512 bits
  int programs = 0;                   ///< scheduled so far, this one included
  std::map<std::string, CarriedPlace> carried = {}; ///< by the name of the result

  /// Evaluation must give the last `rows` query rows of a prompt, -1: all.
  void needQueryRows(int64_t rows);
};

/// Declares states and artefacts in the executable. Call once, before the programs.
LogicalResult declareStates(ScheduleContext &context);

/// Schedules one program (a phase of the decomposed kinds).
LogicalResult scheduleProgram(ScheduleContext &context, PhaseOp program);

/// Adds the programs that no method writes: READ, which decodes k and v for export.
LogicalResult scheduleReads(ScheduleContext &context);

/// Emission state of one program; its methods are spread over Scheduler*.cpp by subject.
class Scheduler {
public:
  Scheduler(ScheduleContext &context, proto::Program::Kind kind, ArrayRef<int64_t> layers,
            StringRef name);

  LogicalResult run(PhaseOp phase);
  LogicalResult readColumn(const StorePlace &store, StringRef column);

private:
  // Scheduler.cpp
  LogicalResult bindArgument(PhaseOp phase, BlockArgument argument);
  /// A table of the request: a number, entries of the rows of the event, of all rows fed (`token`) or,
  /// along any other axis, all that were given.
  void bindRequest(BlockArgument argument, StringRef table);
  LogicalResult runBlock(Block &block);
  LogicalResult runOp(Operation *op);
  LogicalResult runIf(Operation *op);
  /// The extent of a ragged axis: the largest of its lengths.
  LogicalResult longest(ExtentOp op, const AxisPlace &axis);
  LogicalResult finish(NextOp next);
  LogicalResult flushScalars();
  std::string kernelName(StringRef what);

  // SchedulerNest.cpp
  LogicalResult runKernel(KernelOp kernel);
  LogicalResult placeOutput(KernelOp kernel, unsigned result, TensorPlace &place);
  AxisPlace placeAxis(KernelOp kernel, AxisAttr axis, Value yielded);
  /// Describes values that a kernel reads at points, without loops of its own: as inputs of `spec`, as
  /// arguments and as operands. Returns the words that they name.
  std::vector<std::string> bindNestInputs(ValueRange values, NestKernel &spec,
                                          KernelOperands &operands, std::vector<KernelArg> &args);

  // SchedulerAxes.cpp
  using Formula = llvm::function_ref<Value(OpBuilder &, Location, ValueRange)>;
  /// A number that scalar ops on `inputs` (of type index) make, in a slot.
  Extent compute(ArrayRef<Extent> inputs, Formula formula);
  /// max(rows - n, 0) in a slot.
  Extent lastRows(Extent rows, int64_t n);
  /// How many blocks of `size` rows there are.
  Extent blocksOf(Extent rows, Extent size);
  Extent sumOf(Extent a, Extent b);
  /// The place of an axis of the output that `source` makes itself; none for axes it passes on.
  std::optional<AxisPlace> placeMadeAxis(KernelOp kernel, Operation *source, AxisAttr axis,
                                         const TensorPlace &output);
  /// Makes `place` ragged: a length for each point of `axes`, which `output` has.
  void placeLengths(AxisPlace &place, const TensorPlace &output, ArrayRef<std::string> axes);

  // SchedulerCache.cpp
  LogicalResult append(AppendOp op);
  LogicalResult compact(GatherOp op);
  LogicalResult setColumn(SetColumnOp op);
  LogicalResult commit(const StorePlace &store);
  void factorOperands(const StorePlace &store, StringRef column, KernelOperands &operands,
                      StringRef basis, StringRef mean);
  int ropeTable(const StorePlace &store);

  // SchedulerEncode.cpp
  /// The encoder of a column; null when it has none.
  EncoderOp encoderOf(const StorePlace &store, StringRef column);
  /// The buffer of an artefact, dense over `axes`.
  TensorPlace placeArtefact(StringRef name, ArrayRef<AxisAttr> axes);
  /// Replaces the due rows of a column by what the encoder makes of them, in `tasks` tasks a head.
  LogicalResult runEncoder(EncoderOp encoder, const StorePlace &store, int column, int due,
                           int dueRows, int64_t tasks);

  // SchedulerCarried.cpp
  /// Makes the value of a named result of the program one that later programs can bind.
  LogicalResult carry(NextOp next, StringRef name, Value value);
  /// Leaves the selection that a prefill yields as `rows` where the executor finds it.
  LogicalResult passRows(NextOp next, Value rows);
  /// Binds a named result of an earlier program; false when there is none.
  bool bindCarried(BlockArgument argument, StringRef role);
  /// The name of the carried tensor that a buffer becomes, or is; empty when it has another role.
  std::string carriedTensor(int buffer, StringRef name);

  // SchedulerAttend.cpp
  LogicalResult attend(AttendOp op);
  AttendSpec describe(AttendOp op, const StorePlace &store, bool decode);
  LogicalResult bindClauses(AttendOp op, const StorePlace &store, AttendSpec &spec, bool decode,
                            KernelOperands &operands);
  LogicalResult reduceScores(ScoreReduceOp op);
  void takeLastQueriesOnly(AttendOp op);
  LogicalResult rope(RopeOp op);
  int ropeRows(int rowsBuffer, int positions, Extent rows, int64_t heads, bool inverse);

  /// The slot of a scalar value.
  Extent scalar(Value value);
  const StorePlace *storeOf(Value cache);

  ScheduleContext &context_;
  ProgramBuilder builder_;
  std::string name_;
  std::string phaseName_;
  int kernelCount_ = 0;
  llvm::DenseMap<Value, TensorPlace> tensors_;
  llvm::DenseMap<Value, Extent> scalars_;
  llvm::DenseMap<Value, const StorePlace *> caches_;
  llvm::DenseSet<Value> ropeViews_;           ///< caches read as rotated to their row number
  llvm::DenseMap<Value, int> queryPositions_; ///< queries -> buffer of their positions
  llvm::DenseMap<Value, Extent> queryRows_;
  /// Attention that has run, by its log-sum-exp.
  struct AttendPlace {
    AttendSpec spec;
    KernelOperands operands;
    bool decode = false;
  };
  llvm::DenseMap<Value, AttendPlace> attends_;
  SmallVector<Operation *> pendingScalars_;
  Value out_; ///< the value that becomes the attention output
};

} // namespace mlir::kvcache::cpu
