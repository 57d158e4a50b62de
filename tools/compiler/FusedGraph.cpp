// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Follows values: through kernels and conditions to the ops that make them. Scalars are left out;
// they live in slots and move no bytes.

#include "tools/compiler/FusedGraph.h"

#include "dialect/Axes.h"
#include "dialect/KernelOps.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

namespace kvcache::tools {

using namespace mlir;
using namespace mlir::kvcache;

namespace {

bool hasRows(Value value) { return isa<AxisTensorType, IndexSetType, CacheType>(value.getType()); }

std::string opLabel(Operation *op) {
  std::string label = op->getName().stripDialect().str();
  for (StringRef detail : {"fn", "name"}) { // of a reduction, of a column
    if (auto text = op->getAttrOfType<StringAttr>(detail)) {
      label += " " + text.getValue().str();
    }
  }
  return label;
}

class ProgramReader {
public:
  ProgramReader(PhaseOp phase, const KernelBoundaries &boundaries, int64_t tokens)
      : phase_(phase), boundaries_(boundaries), tokens_(tokens) {
    graph_.program = cast<StringAttr>(phase.getKinds()[0]).getValue().str();
  }

  ProgramGraph read() {
    for (auto [argument, binding] : llvm::zip_equal(
             phase_.getBlock().getArguments(), phase_.getBindings().getAsRange<BindingAttr>())) {
      if (!hasRows(argument) || argument.use_empty()) {
        continue;
      }
      FlatSymbolRefAttr symbol = binding.getSymbol();
      GraphNode::Kind kind = symbol ? GraphNode::Kind::State : GraphNode::Kind::Input;
      sources_[argument] = {add(kind, symbol ? symbol.getValue().str() : binding.str(), -1)};
      noteWindow(argument, binding);
    }
    readBlock(phase_.getBlock(), false);
    return std::move(graph_);
  }

private:
  int add(GraphNode::Kind kind, std::string label, int kernel) {
    graph_.nodes.push_back({kind, std::move(label), kernel});
    return static_cast<int>(graph_.nodes.size()) - 1;
  }

  void connect(Value from, int to) {
    for (int source : sources_.lookup(from)) {
      graph_.edges.push_back({source, to, shape(from.getType())});
    }
  }

  /// How many rows `last_queries(n)` brings.
  void noteWindow(Value argument, BindingAttr binding) {
    auto rows = dyn_cast_or_null<IntegerAttr>(binding.getArgument());
    for (AxisAttr axis : axesOf(argument)) {
      if (rows && axis.getKind() == "query" && axis.isDynamic()) {
        windows_[axis.getName()] = rows.getInt();
      }
    }
  }

  void readBlock(Block &block, bool conditional) {
    for (Operation &op : block) {
      if (auto kernel = dyn_cast<KernelOp>(op)) {
        readKernel(kernel, conditional);
      } else if (auto branch = dyn_cast<scf::IfOp>(op)) {
        readBranches(branch);
      } else if (auto next = dyn_cast<NextOp>(op)) {
        readResults(next);
      } else if (llvm::any_of(op.getResults(), hasRows)) {
        readOp(op, -1);
      }
    }
  }

  void readOp(Operation &op, int kernel) {
    int node = add(GraphNode::Kind::Op, opLabel(&op), kernel);
    for (Value operand : op.getOperands()) {
      connect(operand, node);
    }
    for (Value result : op.getResults()) {
      sources_[result] = {node};
    }
  }

  void readKernel(KernelOp kernel, bool conditional) {
    GraphKernel to;
    to.conditional = conditional;
    to.boundary = boundaries_.lookup(kernel);
    to.result = shape(kernel.getResult(0).getType());
    for (auto [argument, input] :
         llvm::zip_equal(kernel.getBlock().getArguments(), kernel.getInputs())) {
      sources_[argument] = sources_.lookup(input);
    }
    for (Operation &op : kernel.getBlock().without_terminator()) {
      if (!llvm::any_of(op.getResults(), hasRows)) {
        continue;
      }
      readOp(op, static_cast<int>(graph_.kernels.size()));
      to.ops.push_back(opLabel(&op));
      bool inMemory = llvm::any_of(
          op.getUsers(), [](Operation *user) { return user->hasTrait<OpTrait::IsTerminator>(); });
      if (!inMemory && !isAddressing(&op)) {
        double uses = static_cast<double>(std::distance(op.use_begin(), op.use_end()));
        to.saved.push_back({opLabel(&op), shape(op.getResult(0).getType()),
                            bytesOf(op.getResult(0).getType()) * (1 + uses)});
      }
    }
    for (unsigned i = 0; i < kernel->getNumResults(); ++i) {
      sources_[kernel.getResult(i)] = sources_.lookup(kernel.getYielded(i));
    }
    graph_.kernels.push_back(std::move(to));
  }

  void readBranches(scf::IfOp branch) {
    for (Region *region : {&branch.getThenRegion(), &branch.getElseRegion()}) {
      if (region->empty()) {
        continue;
      }
      readBlock(region->front(), true);
      for (auto [result, yielded] :
           llvm::zip_equal(branch.getResults(), region->front().getTerminator()->getOperands())) {
        SmallVector<int, 1> from = sources_.lookup(yielded);
        sources_[result].append(from);
      }
    }
  }

  void readResults(NextOp next) {
    for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
      if (!hasRows(value)) {
        continue;
      }
      auto symbol = dyn_cast<FlatSymbolRefAttr>(name);
      int node = symbol ? add(GraphNode::Kind::State, symbol.getValue().str() + ", after", -1)
                        : add(GraphNode::Kind::Result, cast<StringAttr>(name).getValue().str(), -1);
      connect(value, node);
    }
  }

  /// Rows of an axis whose extent is known at run time only, and its letter.
  std::pair<double, std::string> rowsOf(AxisAttr axis) const {
    if (axis.getKind() != "query") {
      return {static_cast<double>(tokens_), axis.getName() == "token" ? "T" : "kept"};
    }
    auto window = windows_.find(axis.getName());
    if (window != windows_.end()) {
      return {static_cast<double>(std::min(window->second, tokens_)), "window"};
    }
    bool step = graph_.program == "decode" || graph_.program == "attend";
    return step ? std::pair{1.0, std::string("1")} : std::pair{double(tokens_), std::string("n")};
  }

  /// "f32 [2, T]"; a cache is a table of columns and has no one shape.
  std::string shape(Type type) const {
    if (isa<CacheType>(type)) {
      return "rows";
    }
    std::string text;
    llvm::raw_string_ostream stream(text);
    auto tensor = dyn_cast<AxisTensorType>(type);
    if (tensor && tensor.getStorage()) {
      stream << tensor.getStorage().getText();
    } else if (tensor) {
      stream << tensor.getElementType();
    } else {
      stream << "indices";
    }
    stream << " [";
    llvm::interleaveComma(axesOf(type), stream, [&](AxisAttr axis) {
      stream << (axis.getInteger() ? std::to_string(*axis.getInteger()) : rowsOf(axis).second);
    });
    return text + "]";
  }

  double bytesOf(Type type) const {
    double bytes = 4; // an index
    if (auto tensor = dyn_cast<AxisTensorType>(type)) {
      Type element = tensor.getElementType();
      bytes = element && element.isIntOrFloat() ? std::max(1u, element.getIntOrFloatBitWidth() / 8)
                                                : 2; // the model's element
    }
    for (AxisAttr axis : axesOf(type)) {
      bytes *= axis.getInteger() ? static_cast<double>(*axis.getInteger()) : rowsOf(axis).first;
    }
    return bytes;
  }

  PhaseOp phase_;
  const KernelBoundaries &boundaries_;
  int64_t tokens_;
  ProgramGraph graph_;
  llvm::DenseMap<Value, SmallVector<int, 1>> sources_;
  std::map<std::string, int64_t> windows_;
};

} // namespace

MethodGraph graphOf(MethodOp method, const KernelBoundaries &boundaries, int64_t tokens) {
  MethodGraph graph;
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    graph.push_back(ProgramReader(phase, boundaries, tokens).read());
  }
  return graph;
}

} // namespace kvcache::tools
