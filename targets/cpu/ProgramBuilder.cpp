// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Slots, buffers and steps of one program. Invariant: a measured row count is dropped as soon as a
// step changes the store it was measured on.

#include "targets/cpu/ProgramBuilder.h"

#include "llvm/Support/ErrorHandling.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

int ProgramBuilder::newSlot() {
  int slot = program_.slots();
  program_.set_slots(slot + 1);
  return slot;
}

int ProgramBuilder::boundSlot(proto::SlotBinding::Role role, int index) {
  auto [it, fresh] = bound_.try_emplace({role, index}, -1);
  if (fresh) {
    it->second = newSlot();
    proto::SlotBinding *binding = program_.add_bindings();
    binding->set_slot(it->second);
    binding->set_role(role);
    binding->set_index(index);
  }
  return it->second;
}

int ProgramBuilder::constantSlot(int64_t value) {
  auto [it, fresh] = constants_.try_emplace(value, -1);
  if (fresh) {
    it->second = newSlot();
    proto::SlotBinding *binding = program_.add_bindings();
    binding->set_slot(it->second);
    binding->set_role(proto::SlotBinding::CONSTANT);
    binding->set_value(value);
  }
  return it->second;
}

proto::Dim ProgramBuilder::toDim(Extent extent) {
  proto::Dim dim;
  if (extent.isConstant()) {
    dim.set_constant(extent.constant);
  } else {
    dim.set_slot(extent.slot);
  }
  return dim;
}

int ProgramBuilder::newBuffer(StringRef name, ElementType elem, ArrayRef<Extent> dims,
                              bool zeroed) {
  proto::Buffer *buffer = program_.add_buffers();
  buffer->set_name(name.str());
  buffer->set_elem(static_cast<uint32_t>(elem));
  for (Extent dim : dims) {
    *buffer->add_dims() = toDim(dim);
  }
  buffer->set_zeroed(zeroed);
  return program_.buffers_size() - 1;
}

int ProgramBuilder::roleBuffer(proto::Buffer::Role role, StringRef name, ElementType elem,
                               ArrayRef<Extent> dims, int index) {
  auto [it, fresh] = roleBuffers_.try_emplace({role, index}, -1);
  if (fresh) {
    it->second = newBuffer(name, elem, dims);
    program_.mutable_buffers(it->second)->set_role(role);
    program_.mutable_buffers(it->second)->set_index(index);
  }
  return it->second;
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
    auto *step = program_.add_steps()->mutable_store_rows();
    step->set_store(store);
    step->set_slot(it->second);
    step->set_divide_up(divideUp);
  }
  return Extent::inSlot(it->second);
}

void ProgramBuilder::reserve(int store, Extent rows) {
  auto *step = program_.add_steps()->mutable_reserve();
  step->set_store(store);
  *step->mutable_rows() = toDim(rows);
  storeChanged(store);
}

void ProgramBuilder::truncate(int store, Extent rows) {
  auto *step = program_.add_steps()->mutable_truncate();
  step->set_store(store);
  *step->mutable_rows() = toDim(rows);
  storeChanged(store);
}

void ProgramBuilder::truncateRagged(int store, int lengthsBuffer) {
  auto *step = program_.add_steps()->mutable_truncate();
  step->set_store(store);
  step->set_lengths_buffer(lengthsBuffer);
  step->set_ragged(true);
  storeChanged(store);
}

void ProgramBuilder::beginCode(int store, int column, int due, int dueRowsSlot) {
  auto *step = program_.add_steps()->mutable_begin_code();
  step->set_store(store);
  step->set_column(column);
  step->set_due(due);
  step->set_due_rows_slot(dueRowsSlot);
}

void ProgramBuilder::endCode(int store, int column, int due) {
  auto *step = program_.add_steps()->mutable_end_code();
  step->set_store(store);
  step->set_column(column);
  step->set_due(due);
}

void ProgramBuilder::guarded(int slot, llvm::function_ref<void()> body) {
  int at = program_.steps_size();
  program_.add_steps()->mutable_guard()->set_slot(slot);
  body();
  program_.mutable_steps(at)->mutable_guard()->set_steps(program_.steps_size() - at - 1);
  // What was measured inside may not have been: forget it.
  measured_.clear();
}

Extent ProgramBuilder::fetch(int buffer, int64_t index) {
  auto *step = program_.add_steps()->mutable_fetch();
  step->set_buffer(buffer);
  step->set_index(index);
  step->set_slot(newSlot());
  return Extent::inSlot(step->slot());
}

proto::Step::Kernel *ProgramBuilder::launch(const EmittedKernel &kernel,
                                            const KernelOperands &operands,
                                            ArrayRef<std::string> ops, StringRef phase,
                                            bool writesSlots) {
  proto::KernelInfo *info = executable_.add_kernels();
  info->set_name(kernel.name);
  for (const std::string &op : ops) {
    info->add_ops(op);
  }
  info->set_status("fused");
  info->set_phase(phase.str());

  auto word = [&](StringRef name) {
    auto found = operands.words.find(name);
    if (found == operands.words.end()) {
      llvm::report_fatal_error(llvm::Twine("kernel ") + kernel.name +
                               " has no value for the word '" + name + "'");
    }
    return found->second;
  };
  auto *step = program_.add_steps()->mutable_kernel();
  step->set_symbol(kernel.name);
  step->set_info(executable_.kernels_size() - 1);
  step->set_writes_slots(writesSlots);
  for (const std::string &dim : kernel.grid) {
    int64_t number = 0;
    if (dim == "heads") {
      *step->add_grid() = toDim(Extent::of(operands.heads));
    } else if (!StringRef(dim).getAsInteger(10, number)) {
      *step->add_grid() = toDim(Extent::of(number));
    } else {
      *step->add_grid() = toDim(word(dim));
    }
  }
  for (const KernelArg &arg : kernel.args) {
    proto::Arg *to = step->add_args();
    switch (arg.kind) {
    case KernelArg::Kind::Buffer: {
      auto found = operands.buffers.find(arg.name);
      if (found == operands.buffers.end()) {
        llvm::report_fatal_error(llvm::Twine("kernel ") + kernel.name + " has no buffer for '" +
                                 arg.name + "'");
      }
      to->set_buffer(found->second);
      break;
    }
    case KernelArg::Kind::Store: {
      auto found = operands.stores.find(arg.name);
      if (found == operands.stores.end()) {
        llvm::report_fatal_error(llvm::Twine("kernel ") + kernel.name + " has no store for '" +
                                 arg.name + "'");
      }
      to->set_store(found->second);
      break;
    }
    case KernelArg::Kind::Scalars:
      to->mutable_scalars();
      for (const std::string &name : kernel.words) {
        to->mutable_scalars()->add_slots(slotOf(word(name)));
      }
      break;
    }
  }
  return step;
}

} // namespace mlir::kvcache::cpu
