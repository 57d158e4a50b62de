// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Export and import know no op by name: whatever the IR can hold, the graph can, and importing what
// was exported gives the same IR.

#include "frontends/MethodGraph.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

namespace mlir::kvcache {

namespace proto = ::kvcache::proto;

namespace {

template <typename Printable>
std::string textOf(Printable printable) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  printable.print(stream);
  return text;
}

class GraphExporter {
public:
  LogicalResult node(Operation &op, proto::Node &to) {
    if (op.getNumSuccessors() != 0) {
      return op.emitOpError("branches, which a graph cannot say");
    }
    to.set_op(op.getName().getStringRef().str());
    for (Value operand : op.getOperands()) {
      to.add_operands(names_.lookup(operand));
    }
    for (Value result : op.getResults()) {
      declare(result, *to.add_results());
    }
    for (NamedAttribute attribute : op.getAttrDictionary()) {
      (*to.mutable_attributes())[attribute.getName().str()] = textOf(attribute.getValue());
    }
    for (Region &region : op.getRegions()) {
      proto::Region *regionTo = to.add_regions();
      if (region.getBlocks().size() > 1) {
        return op.emitOpError("has a region of several blocks, which a graph cannot say");
      }
      for (Block &block : region) {
        proto::Block *blockTo = regionTo->add_blocks();
        for (Value argument : block.getArguments()) {
          declare(argument, *blockTo->add_arguments());
        }
        for (Operation &inner : block) {
          if (failed(node(inner, *blockTo->add_nodes()))) {
            return failure();
          }
        }
      }
    }
    return success();
  }

private:
  void declare(Value value, proto::GraphValue &to) {
    to.set_name("v" + std::to_string(names_.size()));
    to.set_type(textOf(value.getType()));
    names_[value] = to.name();
  }

  llvm::DenseMap<Value, std::string> names_;
};

class GraphImporter {
public:
  explicit GraphImporter(Location source) : b_(source.getContext()), loc_(source) {}

  /// Creates the op of a node at the end of `block`.
  LogicalResult node(const proto::Node &from, Block &block) {
    OperationState state(loc_, from.op());
    if (!state.name.isRegistered()) {
      return emitError(loc_) << "node '" << from.op() << "' is no op of a dialect that is loaded";
    }
    for (const std::string &name : from.operands()) {
      Value value = values_.lookup(name);
      if (!value) {
        return emitError(loc_) << "node '" << from.op() << "' takes '" << name
                               << "', which no node before it makes";
      }
      state.operands.push_back(value);
    }
    for (const auto &[name, text] : from.attributes()) {
      Attribute attribute = name.empty() ? Attribute() : parseAttribute(text, b_.getContext());
      if (!attribute) {
        return emitError(loc_) << "node '" << from.op() << "': attribute '" << name
                               << "' is not the text of one";
      }
      state.addAttribute(name, attribute);
    }
    for (const proto::GraphValue &result : from.results()) {
      Type type = typeOf(result);
      if (!type) {
        return failure();
      }
      state.types.push_back(type);
    }
    for (int region = 0; region < from.regions_size(); ++region) {
      state.addRegion();
    }
    Operation *op = Operation::create(state);
    block.push_back(op);
    for (auto [result, value] : llvm::zip(from.results(), op->getResults())) {
      if (failed(define(result.name(), value))) {
        return failure();
      }
    }
    for (auto [fromRegion, region] : llvm::zip(from.regions(), op->getRegions())) {
      if (failed(this->region(fromRegion, region))) {
        return failure();
      }
    }
    return success();
  }

private:
  Type typeOf(const proto::GraphValue &value) {
    Type type = parseType(value.type(), b_.getContext());
    if (!type) {
      emitError(loc_) << "value '" << value.name() << "' has no type: '" << value.type() << "'";
    }
    return type;
  }

  LogicalResult define(const std::string &name, Value value) {
    return values_.try_emplace(name, value).second
               ? success()
               : emitError(loc_) << "value '" << name << "' is made twice";
  }

  LogicalResult region(const proto::Region &from, Region &to) {
    if (from.blocks_size() > 1) {
      return emitError(loc_) << "a region has " << from.blocks_size() << " blocks, expected one";
    }
    for (const proto::Block &blockFrom : from.blocks()) {
      Block &block = to.emplaceBlock();
      for (const proto::GraphValue &argument : blockFrom.arguments()) {
        Type type = typeOf(argument);
        if (!type || failed(define(argument.name(), block.addArgument(type, loc_)))) {
          return failure();
        }
      }
      for (const proto::Node &inner : blockFrom.nodes()) {
        if (failed(node(inner, block))) {
          return failure();
        }
      }
    }
    return success();
  }

  OpBuilder b_;
  Location loc_;
  llvm::StringMap<Value> values_;
};

} // namespace

LogicalResult exportMethodGraph(ModuleOp module, proto::MethodGraph &to) {
  for (Operation &op : *module.getBody()) {
    if (failed(GraphExporter().node(op, *to.add_nodes()))) {
      return failure();
    }
  }
  return success();
}

FailureOr<OwningOpRef<ModuleOp>> importMethodGraph(Location source,
                                                   const proto::MethodGraph &from) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(source);
  for (const proto::Node &node : from.nodes()) {
    if (failed(GraphImporter(source).node(node, *module->getBody()))) {
      return failure();
    }
  }
  if (failed(verify(*module))) {
    return failure();
  }
  return module;
}

} // namespace mlir::kvcache
