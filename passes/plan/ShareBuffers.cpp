// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Invariant: two buffers in the same memory are never used by the same step, nor one between uses
// of the other. Steps run in order and guards only leave some out, so the order of the text is the
// order of time.

#include "passes/plan/ShareBuffers.h"

#include "dialect/ScheduleOps.h"
#include "runtime/abi/ElementType.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/MapVector.h"

#include <limits>

namespace mlir::kvcache {

namespace {

/// How large a buffer is: a number of bytes times the values of slots.
struct Size {
  int64_t bytes = 0;
  SmallVector<Value> slots; ///< sorted, each as often as it is an extent
};

/// A transient buffer and the steps that use it.
struct Lifetime {
  BufferOp buffer;
  Size size;
  int64_t first = std::numeric_limits<int64_t>::max(), last = -1;
};

/// Memory and the last step that uses what lies in it.
struct Memory {
  Lifetime owner;
  int64_t last = -1;
};

Size sizeOf(BufferOp buffer) {
  ::kvcache::abi::ElementType type = ::kvcache::abi::ElementType::F32;
  StringRef element = buffer.getElement();
  (void)::kvcache::abi::elementTypeFromName({element.data(), element.size()}, type);
  Size size{::kvcache::abi::bytesOf(type), llvm::to_vector(buffer.getExtents())};
  for (int64_t extent : buffer.getStaticExtents()) {
    size.bytes *= ShapedType::isDynamic(extent) ? 1 : extent;
  }
  llvm::sort(size.slots, [](Value a, Value b) {
    return a.getDefiningOp()->isBeforeInBlock(b.getDefiningOp());
  });
  return size;
}

/// The slots that a step writes.
SmallVector<Value> writtenBy(Operation *step) {
  if (auto launch = dyn_cast<LaunchOp>(step)) {
    return launch.getWritesSlots() ? llvm::to_vector(launch.getWords()) : SmallVector<Value>();
  }
  SmallVector<Value> written;
  if (auto rows = dyn_cast<StoreRowsOp>(step)) {
    written.push_back(rows.getSlot());
  } else if (auto fetch = dyn_cast<FetchOp>(step)) {
    written.push_back(fetch.getSlot());
  } else if (auto begin = dyn_cast<BeginCodeOp>(step)) {
    written.push_back(begin.getRows());
  }
  return written;
}

class Sharing {
public:
  explicit Sharing(ProgramOp program) {
    program.walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (op == program || isa<SlotOp>(op)) {
        return;
      }
      if (auto buffer = dyn_cast<BufferOp>(op)) {
        if (buffer.getRole() == "transient") {
          lifetimes_[buffer] = {buffer, sizeOf(buffer), std::numeric_limits<int64_t>::max(), -1};
        }
        return;
      }
      visit(op, isa<RankedOp>(op) ? std::numeric_limits<int64_t>::max() : steps_++);
    });
  }

  void run() {
    SmallVector<Lifetime> inOrder;
    for (auto &entry : lifetimes_) {
      Lifetime &lifetime = entry.second;
      if (lifetime.last >= 0 && !lifetime.buffer.getMemory()) {
        inOrder.push_back(lifetime);
      }
    }
    llvm::stable_sort(inOrder, // of equal ones the first declared
                      [](const Lifetime &a, const Lifetime &b) { return a.first < b.first; });
    SmallVector<Memory> memories;
    for (const Lifetime &lifetime : inOrder) {
      Memory *found = nullptr;
      for (Memory &memory : memories) {
        // The smallest that fits; among equals the first.
        if (fits(lifetime, memory) &&
            (!found || memory.owner.size.bytes < found->owner.size.bytes)) {
          found = &memory;
        }
      }
      if (!found) {
        memories.push_back({lifetime, lifetime.last});
        continue;
      }
      BufferOp buffer = lifetime.buffer;
      buffer.getMemoryMutable().assign(found->owner.buffer.getBuffer());
      found->last = lifetime.last;
    }
  }

private:
  void visit(Operation *step, int64_t number) {
    for (Value operand : step->getOperands()) {
      if (auto found = lifetimes_.find(operand.getDefiningOp()); found != lifetimes_.end()) {
        found->second.first = std::min(found->second.first, number);
        found->second.last = std::max(found->second.last, number);
      }
    }
    for (Value slot : writtenBy(step)) {
      writes_[slot].push_back(number);
    }
  }

  bool fits(const Lifetime &lifetime, const Memory &memory) const {
    BufferOp owner = memory.owner.buffer, buffer = lifetime.buffer;
    if (memory.last >= lifetime.first || memory.owner.size.slots != lifetime.size.slots ||
        memory.owner.size.bytes < lifetime.size.bytes ||
        !owner->isBeforeInBlock(buffer.getOperation())) {
      return false;
    }
    // The slots hold the same numbers when either buffer is first used.
    return llvm::none_of(lifetime.size.slots, [&](Value slot) {
      auto writes = writes_.find(slot);
      return writes != writes_.end() && llvm::any_of(writes->second, [&](int64_t step) {
               return step >= memory.owner.first && step <= lifetime.first;
             });
    });
  }

  llvm::MapVector<Operation *, Lifetime> lifetimes_;
  llvm::DenseMap<Value, SmallVector<int64_t>> writes_;
  int64_t steps_ = 0;
};

} // namespace

void shareBuffers(Operation *root) {
  root->walk([](ProgramOp program) {
    if (program.getKind() != "read") {
      Sharing(program).run();
    }
  });
}

} // namespace mlir::kvcache
