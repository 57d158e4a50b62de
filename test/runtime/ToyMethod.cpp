// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels, as a user of KernelAbi.h would write them, and the programs around them.

#include "ToyMethod.h"

#include "runtime/exec/Kvx.h"
#include "runtime/io/AtomicFile.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace kvcache::rt::toy {

static const char *const kernelSource = R"C(
#include "runtime/abi/KernelAbi.h"
enum { D = 4, K = 0, VCODED = 1, VEXACT = 2, POS = 3 };
static const int64_t *record(const int64_t *view, int64_t g, int64_t h) { return view + 2 + view[0] + 3 * (g * view[0] + h); }
static char *row(char *arena, const int64_t *view, int64_t g, int64_t h, int64_t r, int64_t perPage, int64_t bytes) {
  return arena + view[record(view, g, h)[2] + r / perPage] + r % perPage * bytes;
}
/* grid [H, rows]; store, keys, values, positions, {rows} */
int32_t append(int64_t task, void *const *args) {
  char *arena = args[0];
  const int64_t *view = args[1];
  const float *k = args[2], *v = args[3];
  const int32_t *pos = args[4];
  int64_t rows = *(int64_t *)args[5], h = task / rows, r = task % rows, at = view[2 + h] - rows + r;
  for (int d = 0; d < D; ++d) {
    ((float *)row(arena, view, K, h, at, 64, 16))[d] = k[(r * view[0] + h) * D + d];
    ((float *)row(arena, view, VEXACT, h, at, 32, 16))[d] = v[(r * view[0] + h) * D + d];
  }
  *(int32_t *)row(arena, view, POS, h, at, 64, 4) = pos[r];
  return KVCACHE_KERNEL_OK;
}
/* grid [Hq]; store, out [rows, Hq, D], {rows, Hq} */
int32_t sum(int64_t task, void *const *args) {
  char *arena = args[0];
  const int64_t *view = args[1], *words = args[3];
  float *out = args[2], total[D] = {0};
  int64_t h = task / (words[1] / view[0]);
  for (int64_t r = 0; r < view[2 + h]; ++r)
    for (int d = 0; d < D; ++d)
      total[d] += ((float *)row(arena, view, K, h, r, 64, 16))[d];
  for (int64_t r = 0; r < words[0]; ++r)
    for (int d = 0; d < D; ++d)
      out[(r * words[1] + task) * D + d] = total[d];
  return KVCACHE_KERNEL_OK;
}
/* grid [Hq]; store, lse [rows, Hq], {rows, Hq} */
int32_t count(int64_t task, void *const *args) {
  const int64_t *view = args[1], *words = args[3];
  for (int64_t r = 0; r < words[0]; ++r)
    ((float *)args[2])[r * words[1] + task] = (float)view[2 + task / (words[1] / view[0])];
  return KVCACHE_KERNEL_OK;
}
/* {length, budget, over}: over = length > budget */
int32_t compare(int64_t task, void *const *args) {
  int64_t *words = args[0];
  words[2] = words[0] > words[1];
  return KVCACHE_KERNEL_OK;
}
/* grid [H]; store, scores [H, rows], lengths [H], {budget, rows} */
int32_t rank(int64_t h, void *const *args) {
  const int64_t *view = args[1], *words = args[4];
  for (int64_t r = 0; r < view[2 + h]; ++r) {
    float score = *(float *)row(args[0], view, K, h, r, 64, 16);
    if (score != score)
      return KVCACHE_KERNEL_NAN_SCORE;
    ((float *)args[2])[h * words[1] + r] = score;
  }
  ((int32_t *)args[3])[h] = (int32_t)(words[0] + h < view[2 + h] ? words[0] + h : view[2 + h]);
  return KVCACHE_KERNEL_OK;
}
/* grid [H]; store, due [H, 2] */
int32_t encode(int64_t h, void *const *args) {
  const int64_t *view = args[1], *due = args[2];
  for (int64_t r = due[2 * h]; r < due[2 * h + 1]; ++r) {
    const float *from = (float *)row(args[0], view, VEXACT, h, r, 32, 16);
    uint8_t *page = (uint8_t *)row(args[0], view, VCODED, h, r, 64, 0);
    for (int d = 0; d < D; ++d)
      page[r % 64 * 4 + d] = (uint8_t)from[d];
    ((uint16_t *)(page + 256))[r % 64] = 0x3c00;
    ((uint16_t *)(page + 384))[r % 64] = (uint16_t)h;
  }
  return KVCACHE_KERNEL_OK;
}
/* grid [H]; store, k [H, rows, D], v [H, rows, D], {rows} */
int32_t decode(int64_t h, void *const *args) {
  const int64_t *view = args[1], *coded = record(view, VCODED, h);
  int64_t rows = *(int64_t *)args[4];
  for (int64_t r = 0; r < view[2 + h]; ++r)
    for (int d = 0; d < D; ++d) {
      ((float *)args[2])[(h * rows + r) * D + d] = ((float *)row(args[0], view, K, h, r, 64, 16))[d];
      ((float *)args[3])[(h * rows + r) * D + d] = r >= coded[0] && r < coded[1]
          ? ((uint8_t *)row(args[0], view, VCODED, h, r, 64, 4))[d] : ((float *)row(args[0], view, VEXACT, h, r, 32, 16))[d];
    }
  return KVCACHE_KERNEL_OK;
}
)C";

std::string compileKernels(const std::string &source) {
  std::string folder = std::filesystem::temp_directory_path() / "kvasir-toy-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    ADD_FAILURE() << "cannot make " << folder;
    return {};
  }
  std::string object;
  Status written = writeFileAtomically(folder + "/kernels.c", source);
  std::string command = "cc -std=c99 -O2 -fPIC -shared -I" KVASIR_SOURCE_DIR " -o " + folder +
                        "/kernels.so " + folder + "/kernels.c";
  if (written.isOk() && std::system(command.c_str()) == 0) {
    StatusOr<std::string> bytes = readWholeFile(folder + "/kernels.so");
    object = bytes.isOk() ? *bytes : std::string();
  }
  std::filesystem::remove_all(folder);
  EXPECT_FALSE(object.empty()) << command;
  return object;
}

namespace {

/// Writes one program; slots and buffers are named by number.
class ProgramText {
public:
  ProgramText(proto::Executable &executable, proto::Program::Kind kind)
      : executable_(executable), program_(*executable.add_programs()) {
    program_.set_kind(kind);
  }
  proto::Program &message() { return program_; }
  int slot(proto::SlotBinding::Role role, int64_t value = 0) {
    int slot = program_.slots();
    program_.set_slots(slot + 1);
    proto::SlotBinding &binding = *program_.add_bindings();
    binding.set_slot(slot);
    binding.set_role(role);
    binding.set_value(value);
    return slot;
  }
  /// Extents below 1000 are constants, 1000 + n is slot n.
  int buffer(const char *name, ElementType elem, const std::vector<int64_t> &extents,
             proto::Buffer::Role role = proto::Buffer::TRANSIENT) {
    proto::Buffer &buffer = *program_.add_buffers();
    buffer.set_name(name);
    buffer.set_elem(static_cast<uint32_t>(elem));
    buffer.set_role(role);
    for (int64_t extent : extents) {
      dim(*buffer.add_dims(), extent);
    }
    return program_.buffers_size() - 1;
  }
  proto::Step::Kernel &kernel(const char *symbol, const std::vector<int64_t> &grid, bool store,
                              const std::vector<int> &buffers, const std::vector<int> &scalars) {
    proto::Step::Kernel &kernel = *program_.add_steps()->mutable_kernel();
    kernel.set_symbol(symbol);
    kernel.set_info(executable_.kernels_size());
    executable_.add_kernels()->set_name(symbol);
    for (int64_t extent : grid) {
      dim(*kernel.add_grid(), extent);
    }
    if (store) {
      kernel.add_args()->set_store(0);
    }
    for (int buffer : buffers) {
      kernel.add_args()->set_buffer(buffer);
    }
    if (!scalars.empty()) {
      proto::Scalars &words = *kernel.add_args()->mutable_scalars();
      for (int slot : scalars) {
        words.add_slots(slot);
      }
    }
    return kernel;
  }
  static void dim(proto::Dim &to, int64_t extent) {
    extent < 1000 ? to.set_constant(extent) : to.set_slot(static_cast<int32_t>(extent - 1000));
  }
  proto::Step &step() { return *program_.add_steps(); }

private:
  proto::Executable &executable_;
  proto::Program &program_;
};

} // namespace

static constexpr ElementType f32 = ElementType::F32;

/// Appends the rows of the event; `attends` also computes the output.
static void addFeeding(proto::Executable &executable, proto::Program::Kind kind, bool attends) {
  ProgramText p(executable, kind);
  int rows = p.slot(proto::SlotBinding::ROWS),
      heads = p.slot(proto::SlotBinding::CONSTANT, queryHeads);
  int k = p.buffer("key", f32, {1000 + rows, kvHeads, headDim}, proto::Buffer::KEY);
  int v = p.buffer("value", f32, {1000 + rows, kvHeads, headDim}, proto::Buffer::VALUE);
  int pos = p.buffer("positions", ElementType::I32, {1000 + rows}, proto::Buffer::POSITIONS);
  p.step().mutable_reserve();
  ProgramText::dim(*p.message().mutable_steps(0)->mutable_reserve()->mutable_rows(), 1000 + rows);
  p.kernel("append", {kvHeads, 1000 + rows}, true, {k, v, pos}, {rows});
  if (attends) {
    int out = p.buffer("out", f32, {1000 + rows, queryHeads, headDim}, proto::Buffer::OUT);
    proto::ColumnRef &read = *p.kernel("sum", {queryHeads}, true, {out}, {rows, heads}).add_reads();
    read.set_column(0);
  }
}

static void addCommit(ProgramText &p) {
  int due = p.buffer("due", ElementType::I64, {kvHeads, 2}),
      most = p.slot(proto::SlotBinding::NONE);
  proto::Step::BeginCode &begin = *p.step().mutable_begin_code();
  begin.set_column(1);
  begin.set_due(due);
  begin.set_due_rows_slot(most);
  p.step().mutable_guard()->set_slot(most);
  p.message().mutable_steps(p.message().steps_size() - 1)->mutable_guard()->set_steps(1);
  p.kernel("encode", {kvHeads}, true, {due}, {});
  p.step().mutable_end_code()->set_column(1);
}

static void addPromptEnd(proto::Executable &executable) {
  ProgramText p(executable, proto::Program::PROMPT_END);
  int length = p.slot(proto::SlotBinding::LENGTH), budget = p.slot(proto::SlotBinding::BUDGET);
  int over = p.slot(proto::SlotBinding::NONE), rows = p.slot(proto::SlotBinding::STORE_ROWS);
  int first = p.slot(proto::SlotBinding::CONSTANT, 1);
  int scores = p.buffer("scores", f32, {kvHeads, 1000 + rows}),
      lengths = p.buffer("lengths", ElementType::I32, {kvHeads});
  p.kernel("compare", {}, false, {}, {length, budget, over}).set_writes_slots(true);
  proto::Step::Guard &guard = *p.step().mutable_guard();
  guard.set_slot(over);
  guard.set_steps(2);
  p.kernel("rank", {kvHeads}, true, {scores, lengths}, {budget, rows});
  proto::KernelInfo &info = *executable.mutable_kernels(executable.kernels_size() - 1);
  info.add_ops("score.norm");
  info.add_ops("select.topk");
  info.set_phase("select");
  proto::Step::Truncate &truncate = *p.step().mutable_truncate();
  truncate.set_ragged(true);
  truncate.set_lengths_buffer(lengths);
  proto::Program::Ranked &ranked = *p.message().mutable_ranked();
  ranked.set_buffer(scores);
  ranked.set_first_slot(first);
  ranked.set_last_slot(-1);
  addCommit(p);
}

static void addReaders(proto::Executable &executable) {
  ProgramText read(executable, proto::Program::READ);
  int rows = read.slot(proto::SlotBinding::STORE_ROWS);
  int k = read.buffer("k", f32, {kvHeads, 1000 + rows, headDim}),
      v = read.buffer("v", f32, {kvHeads, 1000 + rows, headDim});
  read.kernel("decode", {kvHeads}, true, {k, v}, {rows});
  ProgramText attend(executable, proto::Program::ATTEND);
  int queries = attend.slot(proto::SlotBinding::ROWS),
      heads = attend.slot(proto::SlotBinding::CONSTANT, queryHeads);
  int out = attend.buffer("out", f32, {1000 + queries, queryHeads, headDim}, proto::Buffer::OUT);
  int lse = attend.buffer("lse", f32, {1000 + queries, queryHeads}, proto::Buffer::LSE);
  attend.kernel("sum", {queryHeads}, true, {out}, {queries, heads});
  attend.kernel("count", {queryHeads}, true, {lse}, {queries, heads});
}

std::shared_ptr<proto::Executable> makeExecutable() {
  static const std::string object = compileKernels(kernelSource);
  auto executable = std::make_shared<proto::Executable>();
  executable->set_producer("toy 1");
  executable->set_method("toy");
  executable->set_has_token_budget(true);
  (*executable->mutable_parameters())["keep"] = "2";
  proto::Geometry &g = *executable->mutable_geometry();
  g.set_layers(layers);
  g.set_query_heads(queryHeads);
  g.set_kv_heads(kvHeads);
  g.set_head_dim(headDim);
  g.set_act(static_cast<uint32_t>(f32));
  proto::Store &store = *executable->add_stores();
  store.set_name("kv");
  store.set_row_heads(kvHeads);
  const std::pair<const char *, const char *> columns[] = {
      {"k", "f32"},
      {"v",
       "recent<affine<8, tile(channel:4), min_f16, scale_f16, lsb(channel)>, keep(2), block(1)>"},
      {"pos", "i32"}};
  for (const auto &[name, storage] : columns) {
    proto::Column &column = *store.add_columns();
    column.set_name(name);
    column.set_width(std::string(name) == "pos" ? 1 : headDim);
    column.set_storage(storage);
  }
  addFeeding(*executable, proto::Program::PREFILL, true);
  addFeeding(*executable, proto::Program::INGEST, false);
  addFeeding(*executable, proto::Program::DECODE, true);
  addPromptEnd(*executable);
  ProgramText stepEnd(*executable, proto::Program::STEP_END);
  addCommit(stepEnd);
  addReaders(*executable);
  proto::NativeCode &code = *executable->add_code();
  code.set_isa("x86-64-v2");
  EXPECT_TRUE(packObject(object, code).isOk());
  return executable;
}

Rows::Rows(int64_t layer, int64_t first, int64_t count)
    : count(count), q(count * queryHeads * headDim, 1.0f),
      out(count * queryHeads * headDim, -1.0f) {
  for (int64_t t = first; t < first + count; ++t) {
    positions.push_back(static_cast<int32_t>(t));
    for (int64_t h = 0; h < kvHeads; ++h) {
      for (int64_t d = 0; d < headDim; ++d) {
        k.push_back(key(layer, t, h, d));
        v.push_back(value(t, h, d));
      }
    }
  }
}

float Rows::key(int64_t layer, int64_t token, int64_t head, int64_t channel) {
  return static_cast<float>(token * 8 + head * 4 + channel + 100000 * layer);
}

float Rows::value(int64_t token, int64_t head, int64_t channel) {
  return static_cast<float>((token * 7 + head * 3 + channel) % 256);
}

LayerRows Rows::view() {
  LayerRows rows;
  rows.rows = count;
  rows.q = q.data();
  rows.k = k.data();
  rows.v = v.data();
  rows.positions = positions.data();
  rows.out = out.data();
  return rows;
}

} // namespace kvcache::rt::toy
