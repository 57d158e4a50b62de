// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Byte-driven fusion. The rule, per value: a kernel boundary costs a write and a read of the value;
// computing it again costs its reduction once more for every point of the consumer's loops that the
// value does not depend on. Elementwise values are always computed in place; reductions are, when
// their consumer runs over exactly the same points.

#include "passes/fuse/FormKernels.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/KernelOps.h"
#include "dialect/LinearUse.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/RowOps.h"
#include "dialect/SelectOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache {

bool isAddressing(Operation *op) { return isa<IotaOp, SliceOp, RelabelOp, ColumnOp>(op); }

namespace {

/// Primitives whose results are written to memory row by row, by loops that read each element of
/// their operands once.
bool isRowLoop(Operation *op) {
  return isa<ScatterOp, SortOp, ScanOp, ConcatOp, BlocksOp>(op);
}

/// Primitives that a loop nest evaluates point by point, or whose operands it does.
bool isNest(Operation *op) {
  if (auto gather = dyn_cast<GatherOp>(op)) {
    return isa<AxisTensorType>(gather.getType());
  }
  if (auto reduce = dyn_cast<ReduceOp>(op)) {
    return reduce.getFn() != "quantile";
  }
  return isa<MapOp, ContractOp, PoolOp, IotaOp, SliceOp, RelabelOp, ColumnOp>(op) || isRowLoop(op);
}

/// Kernels of their own: they need their input in memory, or write it in another order.
bool isAlone(Operation *op) {
  if (auto reduce = dyn_cast<ReduceOp>(op)) {
    return reduce.getFn() == "quantile";
  }
  return isa<TopkOp, SelectAllocOp, SelectComplementOp, SelectUnionOp, SelectExpandOp,
             SelectFitOp, EighOp>(op);
}

bool isReduction(Operation *op) {
  return isa<ReduceOp, ContractOp, PoolOp, ScatterOp, BlocksOp>(op);
}

/// Evaluated point by point, but how many indices come out is known only afterwards.
bool isPredicate(Operation *op) { return isa<SelectWhereOp>(op); }

using Space = llvm::StringSet<>;

Space spaceOf(Operation *op) {
  Space space;
  auto add = [&](Value value) {
    for (AxisAttr axis : axesOf(value)) {
      space.insert(axis.getName());
    }
  };
  llvm::for_each(op->getResults(), add);
  if (isReduction(op)) {
    llvm::for_each(op->getOperands(), add);
  }
  return space;
}

bool within(Value value, const Space &space) {
  // The consumer visits no point more than the value has.
  Space own;
  for (AxisAttr axis : axesOf(value)) {
    own.insert(axis.getName());
  }
  return llvm::all_of(space, [&](const auto &name) { return own.contains(name.getKey()); });
}

class BlockFuser {
public:
  BlockFuser(Block &block, KernelBoundaries *boundaries) : block_(block), boundaries_(boundaries) {}

  void run() {
    sinkUpdates();
    chooseRoots();
    for (Operation *root : llvm::reverse(roots_)) {
      buildKernel(root);
    }
    eraseInlined();
  }

private:
  /// A value that is computed in place of its use reads its caches there: no update may come before
  /// that by its place in the text alone. Each moves to its first user.
  void sinkUpdates() {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block_))) {
      if (op.hasTrait<OpTrait::IsTerminator>() || llvm::none_of(op.getOpOperands(), updatesCache)) {
        continue;
      }
      Operation *first = nullptr;
      for (Operation *user : op.getUsers()) {
        Operation *here = block_.findAncestorOpInBlock(*user);
        first = !first || here->isBeforeInBlock(first) ? here : first;
      }
      if (first) {
        op.moveBefore(first);
      }
    }
  }

  /// From the end of the block, so that the loops a value would be computed in are known before the
  /// value is decided.
  void chooseRoots() {
    for (Operation &op : llvm::reverse(block_)) {
      if (isAlone(&op)) {
        addRoot(&op, "it is a loop of its own and cannot be computed point by point");
      } else if (isPredicate(&op)) {
        addRoot(&op, "how many indices it writes is known only when it has run");
        for (Value input : op.getOperands()) {
          for (AxisAttr axis : axesOf(input)) {
            spaces_[&op].insert(axis.getName());
          }
        }
      } else if (isNest(&op) && !op.use_empty()) {
        std::string why = whyMemory(&op);
        if (!why.empty()) {
          addRoot(&op, why);
          spaces_[&op] = spaceOf(&op);
        } else {
          spaces_[&op] = consumerSpace(&op);
        }
      }
    }
  }

  void addRoot(Operation *op, std::string why) {
    roots_.insert(op);
    reasons_[op] = std::move(why);
  }

  Space consumerSpace(Operation *op) {
    Space space;
    for (Operation *user : op->getUsers()) {
      for (const auto &name : spaces_[user]) {
        space.insert(name.getKey());
      }
    }
    return space;
  }

  /// Why the value cannot be computed where it is used; empty when it can.
  std::string whyMemory(Operation *op) {
    llvm::SmallPtrSet<Operation *, 4> users;
    for (Operation *user : op->getUsers()) {
      // A predicate of select.where is evaluated point by point as well.
      if (user->getBlock() != &block_) {
        return "it is used under a condition or loop, or outside of its own";
      }
      if (!(isNest(user) || isPredicate(user))) {
        return user->hasTrait<OpTrait::IsTerminator>()
                   ? "it is a result of its program"
                   : (user->getName().getStringRef() + " reads it from memory").str();
      }
      users.insert(user);
    }
    if (isRowLoop(op)) {
      return (op->getName().getStringRef() + " writes its rows in a loop of its own").str();
    }
    if (isAddressing(op)) {
      return {};
    }
    if (users.size() > 1) {
      return "more than one op reads it, and would compute it again";
    }
    if (!isReduction(op)) {
      return {};
    }
    Operation *user = *users.begin();
    // These read their input at several points, or at points out of order.
    if (isa<PoolOp, GatherOp, ScatterOp, ContractOp, SelectWhereOp>(user)) {
      return (user->getName().getStringRef() +
              " reads it at other points than its own, and would reduce it again at each")
          .str();
    }
    bool same =
        llvm::all_of(op->getResults(), [&](Value result) { return within(result, spaces_[user]); });
    return same ? std::string()
                : (user->getName().getStringRef() +
                   " runs over more points than it has, and would reduce it again at each")
                      .str();
  }

  /// The root and every op that is computed in place for it.
  llvm::SetVector<Operation *> closure(Operation *root) {
    llvm::SetVector<Operation *> ops;
    SmallVector<Operation *> stack{root};
    while (!stack.empty()) {
      Operation *op = stack.pop_back_val();
      if (!ops.insert(op)) {
        continue;
      }
      for (Value operand : op->getOperands()) {
        Operation *source = operand.getDefiningOp();
        bool inPlace = source && isNest(source) && !roots_.contains(source);
        if (source && source->getBlock() == &block_ &&
            (inPlace || source->hasTrait<OpTrait::ConstantLike>())) {
          stack.push_back(source);
        }
      }
    }
    return ops;
  }

  void buildKernel(Operation *root) {
    llvm::SetVector<Operation *> ops = closure(root);
    SmallVector<Operation *> ordered(ops.begin(), ops.end());
    llvm::sort(ordered, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
    llvm::SetVector<Value> inputs;
    for (Operation *op : ordered) {
      for (Value operand : op->getOperands()) {
        if (!ops.contains(operand.getDefiningOp())) {
          inputs.insert(operand);
        }
      }
    }
    OpBuilder b(root);
    auto kernel = KernelOp::create(b, root->getLoc(), root->getResultTypes(), inputs.getArrayRef());
    Block &body =
        kernel.getBody().empty() ? kernel.getBody().emplaceBlock() : kernel.getBody().front();
    IRMapping mapping;
    for (Value input : inputs) {
      mapping.map(input, body.addArgument(input.getType(), input.getLoc()));
    }
    OpBuilder inside = OpBuilder::atBlockEnd(&body);
    Operation *last = nullptr;
    for (Operation *op : ordered) {
      last = inside.clone(*op, mapping);
    }
    KernelYieldOp::create(inside, root->getLoc(), last->getResults());
    root->replaceAllUsesWith(kernel.getResults());
    replaced_.push_back(root);
    if (boundaries_) {
      (*boundaries_)[kernel] = reasons_[root];
    }
  }

  void eraseInlined() {
    for (Operation *root : replaced_) {
      root->dropAllReferences();
    }
    for (Operation *root : replaced_) {
      root->erase();
    }
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block_))) {
      if (isNest(&op) && op.use_empty()) {
        op.erase();
      }
    }
  }

  Block &block_;
  KernelBoundaries *boundaries_;
  llvm::SetVector<Operation *> roots_;
  llvm::DenseMap<Operation *, std::string> reasons_;
  SmallVector<Operation *> replaced_;
  llvm::DenseMap<Operation *, Space> spaces_;
};

} // namespace

bool belongsInKernel(Operation *op) { return isNest(op) || isAlone(op) || isPredicate(op); }

void formKernels(Operation *root, KernelBoundaries *boundaries) {
  SmallVector<Block *> blocks;
  root->walk([&](Operation *op) {
    if (isa<PhaseOp, EncoderOp>(op) || op->getName().getDialectNamespace() == "scf") {
      for (Region &region : op->getRegions()) {
        for (Block &block : region) {
          blocks.push_back(&block);
        }
      }
    }
  });
  for (Block *block : blocks) {
    BlockFuser(*block, boundaries).run();
  }
}

} // namespace mlir::kvcache
