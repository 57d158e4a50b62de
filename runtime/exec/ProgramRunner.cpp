// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The steps of a program. Only kernels run in parallel; what changes a store runs between them.

#include "runtime/exec/ProgramRunner.h"

#include "runtime/parallel/Parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>

namespace kvcache::rt {

/// Tasks are handed out in runs, so that a grid of many small ones costs no more than one of few.
static constexpr int64_t runsPerThread = 16;

ProgramRunner::ProgramRunner(std::shared_ptr<const LoadedExecutable> executable)
    : executable_(std::move(executable)) {
  size_t kernels = static_cast<size_t>(executable_->message().kernels_size());
  counters_.bytesRead.assign(kernels, 0);
  counters_.bytesWritten.assign(kernels, 0);
  counters_.seconds.assign(kernels, 0);
}

Status ProgramRunner::run(const LoadedProgram &program, int64_t layer,
                          const std::vector<RunItem> &items) {
  program_ = &program;
  layer_ = layer;
  items_ = items.size();
  while (frames_.size() < items.size()) {
    frames_.push_back(std::make_unique<Frame>());
  }
  for (size_t i = 0; i < items.size(); ++i) {
    frames_[i]->begin(*executable_, program, layer, items[i]);
  }
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const LoadedStep &step = program.steps[s];
    int32_t number = static_cast<int32_t>(s);
    if (step.kind == LoadedStep::Kind::Kernel) {
      KVCACHE_RETURN_IF_ERROR(launch(step.kernel, number));
      continue;
    }
    for (size_t i = 0; i < items_; ++i) {
      Frame &frame = *frames_[i];
      if (frame.skipUntil > number) {
        continue;
      }
      if (step.kind == LoadedStep::Kind::Guard) {
        frame.skipUntil = frame.slot(step.slot) != 0 ? 0 : number + 1 + step.steps;
      } else if (step.kind == LoadedStep::Kind::Fetch) {
        KVCACHE_RETURN_IF_ERROR(fetch(step, frame));
      } else {
        KVCACHE_RETURN_IF_ERROR(storeStep(step, frame));
      }
    }
  }
  return Status::ok();
}

/// Launches a kernel for the sequences that take part in this step.
Status ProgramRunner::launch(const LoadedKernel &kernel, int32_t step) {
  parts_.clear();
  int64_t tasks = 0;
  for (size_t i = 0; i < items_; ++i) {
    Frame &frame = *frames_[i];
    if (frame.skipUntil > step) {
      continue;
    }
    int64_t own = 1;
    for (const LoadedDim &dim : kernel.grid) {
      int64_t extent = frame.value(dim);
      if (extent < 0 || (extent > 0 && own > (int64_t(1) << 40) / extent)) {
        return Status::internal("the grid of kernel '" +
                                executable_->message().kernels(kernel.info).name() +
                                "' is not valid");
      }
      own *= extent;
    }
    if (own == 0) {
      continue;
    }
    KVCACHE_RETURN_IF_ERROR(frame.gather(kernel));
    parts_.push_back({tasks, &frame});
    tasks += own;
    count(kernel, frame);
  }
  if (tasks == 0) {
    return Status::ok();
  }
  auto start = std::chrono::steady_clock::now();
  Status status = runTasks(kernel, tasks);
  counters_.seconds[kernel.info] +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (status.isOk() && kernel.writesSlots) {
    for (const Part &part : parts_) {
      part.frame->scatter(kernel);
    }
  }
  return status;
}

Status ProgramRunner::runTasks(const LoadedKernel &kernel, int64_t tasks) {
  constexpr int64_t none = std::numeric_limits<int64_t>::max();
  // The failure reported is that of the first task that failed, whatever ran first: task * 256 +
  // code.
  std::atomic<int64_t> failed{none};
  auto runRange = [&](int64_t first, int64_t end) {
    auto next = std::upper_bound(parts_.begin(), parts_.end(), first,
                                 [](int64_t task, const Part &p) { return task < p.firstTask; });
    auto part = std::prev(next);
    for (int64_t task = first; task < end; ++task) {
      if (next != parts_.end() && task == next->firstTask) {
        part = next++;
      }
      int32_t code = kernel.function(task - part->firstTask, part->frame->args());
      if (code != KVCACHE_KERNEL_OK) {
        int64_t mine = task * 256 + std::clamp(code, 0, 255);
        for (int64_t seen = failed.load();
             mine < seen && !failed.compare_exchange_weak(seen, mine);) {
        }
      }
    }
  };
  int64_t runs = std::min<int64_t>(tasks, threads() * runsPerThread);
  if (runs == 1 || kernel.writesSlots) {
    runRange(0, tasks);
  } else {
    parallelFor(runs, [&](int64_t run) { runRange(tasks * run / runs, tasks * (run + 1) / runs); });
  }
  return failed.load() == none ? Status::ok()
                               : failure(kernel, static_cast<int32_t>(failed.load() % 256));
}

/// The op to name when a kernel fails: the one it was told, else the one that ranks, else all it
/// covers.
static std::string blamedOp(const proto::KernelInfo &info) {
  if (!info.check_op().empty()) {
    return info.check_op();
  }
  std::string all;
  for (const std::string &op : info.ops()) {
    if (op.rfind("select.", 0) == 0) {
      return op;
    }
    all += (all.empty() ? "" : ", ") + op;
  }
  return all.empty() ? info.name() : all;
}

Status ProgramRunner::failure(const LoadedKernel &kernel, int32_t code) const {
  const proto::KernelInfo &info = executable_->message().kernels(kernel.info);
  std::string op = blamedOp(info);
  std::string where = " in phase " +
                      (info.phase().empty() ? programKindName(program_->kind) : info.phase()) +
                      (program_->kind == proto::Program::PROMPT_MODEL ||
                               program_->kind == proto::Program::CALIBRATE_MODEL
                           ? ", all layers"
                           : ", layer " + std::to_string(layer_));
  switch (code) {
  case KVCACHE_KERNEL_NAN_SCORE:
    return Status::badInput("NaN in the scores of " + op + where);
  case KVCACHE_KERNEL_EIGEN_FAILED:
    return Status::badInput("the eigensolver found no solution for " + op + where);
  default:
    return Status::internal("kernel '" + info.name() + "' returned status " + std::to_string(code) +
                            where);
  }
}

/// Adds the bytes that a launch moves for one sequence, as the executable describes them.
void ProgramRunner::count(const LoadedKernel &kernel, Frame &frame) {
  const proto::KernelInfo &info = executable_->message().kernels(kernel.info);
  LayerState &state = *frame.item().state;
  const Store *store = kernel.firstStore < 0 ? nullptr : state.stores[kernel.firstStore].get();
  int64_t rows = store ? store->totalRows() : 0;
  if (kernel.hasMovedRows) {
    rows = frame.value(kernel.movedRows) *
           (store ? store->schema().rowHeads() : executable_->geometry().kvHeads);
  }
  int64_t read = info.read_bytes_per_row() * rows;
  for (const auto &[number, column] : kernel.reads) {
    read += static_cast<int64_t>(state.stores[number]->columnBits(column) / 8);
  }
  counters_.bytesRead[kernel.info] += read;
  counters_.bytesWritten[kernel.info] += info.write_bytes_per_row() * rows;
  if (program_->kind == proto::Program::DECODE || program_->kind == proto::Program::STEP_END) {
    state.decodeReadBytes += read;
  }
}

/// Puts one element of an i32 buffer into a slot.
Status ProgramRunner::fetch(const LoadedStep &step, Frame &frame) {
  int64_t elements = frame.bufferBytes(step.buffer) / static_cast<int64_t>(sizeof(int32_t));
  if (step.element < 0 || step.element >= elements) {
    return Status::internal("element " + std::to_string(step.element) + " of buffer '" +
                            program_->buffers[step.buffer].name + "' is fetched, it has " +
                            std::to_string(elements));
  }
  void *data = nullptr;
  KVCACHE_RETURN_IF_ERROR(frame.buffer(step.buffer, data));
  frame.setSlot(step.slot, static_cast<const int32_t *>(data)[step.element]);
  return Status::ok();
}

Status ProgramRunner::storeStep(const LoadedStep &step, Frame &frame) {
  Store &store = *frame.item().state->stores[step.store];
  switch (step.kind) {
  case LoadedStep::Kind::Reserve: {
    int64_t rows = frame.value(step.rows);
    return rows < 0 ? Status::internal("store '" + store.schema().name() + "' cannot grow by " +
                                       std::to_string(rows) + " rows")
                    : store.grow(rows);
  }
  case LoadedStep::Kind::Truncate:
    return truncate(step, frame);
  case LoadedStep::Kind::BeginCode:
    return beginCode(step, frame);
  case LoadedStep::Kind::EndCode:
    return store.endCode(step.column);
  case LoadedStep::Kind::StoreRows:
    frame.setSlot(step.slot, (store.maxRows() + step.divideUp - 1) / step.divideUp);
    return Status::ok();
  case LoadedStep::Kind::Kernel:
  case LoadedStep::Kind::Guard:
  case LoadedStep::Kind::Fetch:
    break;
  }
  return Status::ok();
}

Status ProgramRunner::truncate(const LoadedStep &step, Frame &frame) {
  Store &store = *frame.item().state->stores[step.store];
  void *lengths = nullptr;
  if (step.ragged) {
    KVCACHE_RETURN_IF_ERROR(frame.buffer(step.buffer, lengths));
    if (frame.bufferBytes(step.buffer) < store.schema().rowHeads() * 4) {
      return Status::internal("store '" + store.schema().name() +
                              "' is cut to fewer lengths than it has heads");
    }
  }
  for (int64_t h = 0; h < store.schema().rowHeads(); ++h) {
    int64_t rows = step.ragged ? static_cast<const int32_t *>(lengths)[h]
                               : std::min(frame.value(step.rows), store.rows(h));
    KVCACHE_RETURN_IF_ERROR(store.truncate(h, rows));
  }
  return Status::ok();
}

Status ProgramRunner::beginCode(const LoadedStep &step, Frame &frame) {
  Store &store = *frame.item().state->stores[step.store];
  void *due = nullptr;
  KVCACHE_RETURN_IF_ERROR(frame.buffer(step.buffer, due));
  int64_t heads = store.schema().rowHeads();
  static_assert(sizeof(Store::Due) == 2 * sizeof(int64_t), "due rows are two words a head");
  if (frame.bufferBytes(step.buffer) < heads * static_cast<int64_t>(sizeof(Store::Due))) {
    return Status::internal("the due rows of store '" + store.schema().name() +
                            "' do not fit their buffer");
  }
  auto *ranges = static_cast<Store::Due *>(due);
  KVCACHE_RETURN_IF_ERROR(store.beginCode(step.column, ranges));
  int64_t most = 0;
  for (int64_t h = 0; h < heads; ++h) {
    most = std::max(most, ranges[h].end - ranges[h].first);
  }
  frame.setSlot(step.slot, most);
  return Status::ok();
}

} // namespace kvcache::rt
