// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The clauses `logit` and `at` of attention against double precision: a function of logit,
// positions and a tensor over entries that hides some of them, in decode and in prefill; lists of
// entries for each head and query row, or for each query head, of different lengths and empty.

#include "dialect/KVCacheDialect.h"
#include "mlir/Parser/Parser.h"
#include "test/targets/cpu/AttendCase.h"

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;
using mlir::kvcache::cpu::test::AttendCase;
using mlir::kvcache::cpu::test::AttendShape;
using mlir::kvcache::cpu::test::CompiledKernels;
using mlir::kvcache::cpu::test::KernelModule;

namespace {

constexpr int64_t heads = 2, group = 2, queries = 3, dim = 40;

AttendShape shapeOf() {
  AttendShape shape;
  shape.group = group;
  shape.headDim = dim;
  shape.rows = {150, 70};
  shape.queryRows = queries;
  return shape;
}

/// An attention with clauses, its inputs, and what comes of them.
struct ClauseCase {
  /// `lists`: axes of the index set but the last; empty: none.
  ClauseCase(bool logit, const std::string &lists)
      : problem(shapeOf()), logit(logit), lists(lists) {
    kernels.context.loadDialect<KVCacheDialect>();
    std::string q = "!kvcache.tensor<head:2, group:2, query:?, channel.post:40, f32>",
                o = "!kvcache.tensor<head:2, group:2, query:?, channel.v:40, f32>",
                kv = "!kvcache.cache<append, head:2, token:?, {k [channel.post:40] = f32, "
                     "v [channel.v:40] = f32, pos = i32}>",
                b = "!kvcache.tensor<head:2, token:?, f32>",
                at = "!kvcache.index<" + lists + ", token.keep:? of token>";
    std::string names = "%q: " + q + ", %kv: " + kv, types = q + ", " + kv;
    names += lists.empty() ? "" : ", %at: " + at;
    types += lists.empty() ? "" : ", " + at;
    names += logit ? ", %b: " + b : "";
    types += logit ? ", " + b : "";
    kernels.context.allowUnregisteredDialects();
    source = parseSourceString<ModuleOp>(
        "\"test.body\"() ({\n^bb0(" + names + "):\n %o = kvcache.attend %q over %kv " +
            (lists.empty() ? "" : "at %at ") + "causal " +
            (logit ? "logit \"select(b > 0.8, -inf, 0.5 * z + b + 0.01 * (qpos - kpos))\" (b = %b)"
                   : "") +
            " : (" + types + ") -> " + o + "\n \"test.end\"() : () -> ()\n}) : () -> ()",
        &kernels.context);
    fillInputs();
  }

  void fillInputs() {
    std::mt19937 random(3);
    bias.resize(static_cast<size_t>(heads * problem.capacity()));
    for (float &value : bias) {
      value = std::uniform_real_distribution<float>(-1.0F, 1.0F)(random);
    }
    for (int64_t h = 0; h < heads * group; ++h) {
      for (int64_t r = 0; r < queries; ++r) {
        std::vector<int64_t> chosen;
        int64_t step = 1 + (listOf(h, r) * 5) % 7;
        for (int64_t t = r; t < problem.store().rows(h / group) && listOf(h, r) != 1; t += step) {
          chosen.push_back(t);
        }
        rows[{h, r}] = chosen;
      }
    }
  }

  /// Number of the list that query head `h` reads for query row `r`.
  int64_t listOf(int64_t h, int64_t r) const {
    return lists.find("group") != std::string::npos ? h : h / group * queries + r;
  }
  int64_t listCount() const {
    return lists.find("group") != std::string::npos ? heads * group : heads * queries;
  }

  AttendSpec spec() {
    AttendSpec spec = problem.spec();
    spec.wantsLogits = false;
    AttendClauses &clauses = spec.clauses;
    source->walk([&](AttendOp op) { clauses.op = op; });
    clauses.inputs.ops.push_back(clauses.op);
    clauses.group = group;
    NestAxis plain, token;
    token.capacity = NestExtent::of(problem.capacity());
    if (logit) {
      NestOperand operand;
      operand.value = clauses.op.getInputs()[0];
      operand.arg = "b";
      operand.axes = {plain, token};
      clauses.inputs.inputs.push_back(operand);
      clauses.args.push_back(KernelArg::buffer("b", ::kvcache::abi::ElementType::F32));
    }
    if (!lists.empty()) {
      NestOperand operand;
      operand.value = clauses.op.getAt();
      operand.arg = "at";
      operand.elem = ::kvcache::abi::ElementType::I32;
      NestAxis second, keep = token;
      second.capacity = NestExtent::of(queries);
      keep.lengths = "lengths";
      bool perHead = lists.find("group") != std::string::npos;
      keep.lengthAxes = {"head", perHead ? "group" : "query"};
      operand.axes = {plain, perHead ? plain : second, keep};
      clauses.inputs.inputs.push_back(operand);
      clauses.args.push_back(KernelArg::buffer("at", ::kvcache::abi::ElementType::I32));
      clauses.args.push_back(KernelArg::buffer("lengths", ::kvcache::abi::ElementType::I32));
      if (perHead) {
        spec.sharers = group;
        spec.kvHeads = spec.queryHeads;
      }
    }
    return spec;
  }

  /// What attention over the chosen entries with changed logits gives, into problem.out and lse.
  void computeReference() {
    problem.computeReference();
    for (int64_t r = 0; r < queries; ++r) {
      for (int64_t h = 0; h < heads * group; ++h) {
        computeRow(r, h);
      }
    }
  }

  void computeRow(int64_t r, int64_t h) {
    constexpr double never = -std::numeric_limits<double>::infinity();
    size_t headRow = static_cast<size_t>(r * heads * group + h);
    std::vector<int64_t> read = rows.at({h, r});
    if (lists.empty()) {
      read.clear();
      for (int64_t t = 0; t < problem.store().rows(h / group); ++t) {
        read.push_back(t);
      }
    }
    std::vector<double> z;
    double largest = never, total = 0;
    for (int64_t t : read) {
      double value =
          problem
              .logits[headRow * static_cast<size_t>(problem.capacity()) + static_cast<size_t>(t)];
      double b = bias[static_cast<size_t>(h / group * problem.capacity() + t)];
      double ahead =
          problem.qpos[static_cast<size_t>(r)] - problem.store().exact(2, h / group, t, 0);
      if (logit && value != never) {
        value = b > 0.8F ? never : 0.5 * value + b + 0.01 * ahead;
      }
      z.push_back(value);
      largest = std::max(largest, value);
    }
    std::fill_n(problem.out.begin() + static_cast<int64_t>(headRow) * dim, dim, 0.0);
    problem.lse[headRow] = never;
    if (largest == never) {
      return;
    }
    for (double value : z) {
      total += std::exp(value - largest);
    }
    problem.lse[headRow] = largest + std::log(total);
    for (size_t i = 0; i < read.size(); ++i) {
      std::vector<double> v = problem.row(1, h / group, read[i]);
      for (int64_t c = 0; c < dim; ++c) {
        problem.out[headRow * dim + static_cast<size_t>(c)] +=
            std::exp(z[i] - largest) / total * v[static_cast<size_t>(c)];
      }
    }
  }

  std::map<std::string, void *> buffers() {
    at.assign(static_cast<size_t>(listCount() * problem.capacity()), -1);
    lengths.assign(static_cast<size_t>(listCount()), 0);
    for (int64_t h = 0; h < heads * group; ++h) {
      for (int64_t r = 0; r < queries; ++r) {
        const std::vector<int64_t> &chosen =
            rows.at({h, lists.find("group") != std::string::npos ? 0 : r});
        lengths[static_cast<size_t>(listOf(h, r))] = static_cast<int32_t>(chosen.size());
        std::copy(chosen.begin(), chosen.end(), at.begin() + listOf(h, r) * problem.capacity());
      }
    }
    return {{"b", bias.data()}, {"at", at.data()}, {"lengths", lengths.data()}};
  }

  AttendCase problem;
  KernelModule kernels;
  OwningOpRef<ModuleOp> source;
  bool logit;
  std::string lists;
  std::vector<float> bias;
  std::vector<int32_t> at, lengths;
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> rows;
};

void checkDecode(bool logit, const std::string &lists) {
  ClauseCase one(logit, lists);
  if (lists.find("group") != std::string::npos) { // the same list for all query rows
    for (auto &[place, chosen] : one.rows) {
      chosen = one.rows.at({place.first, 0});
    }
  }
  one.computeReference();
  AttendSpec spec = one.spec();
  ASSERT_EQ(whyNotAttend(spec), "");
  FailureOr<EmittedKernel> decode = emitAttendDecode(*one.kernels.module, spec);
  ASSERT_TRUE(succeeded(decode));
  EmittedKernel merge = emitAttendMerge(*one.kernels.module, spec);
  CompiledKernels code(*one.kernels.module, Isa::V3);
  int64_t splits = 1, queryHeads = heads * group;
  std::vector<float> partial(static_cast<size_t>(queries * queryHeads * spec.partialWidth()), NAN),
      maxima(static_cast<size_t>(queries * queryHeads * 2), NAN),
      out(static_cast<size_t>(queries * queryHeads * dim), NAN),
      lse(static_cast<size_t>(queries * queryHeads), NAN);
  std::vector<int64_t> words{queries, splits};
  std::map<std::string, void *> buffers = one.buffers();
  buffers.insert({{"partial", partial.data()},
                  {"maxima", maxima.data()},
                  {"out", out.data()},
                  {"lse", lse.data()},
                  {"scalars", words.data()}});
  EXPECT_EQ(code.run(decode->name.c_str(), queries * spec.kvHeads * splits,
                     one.problem.pointers(*decode, buffers)),
            0);
  EXPECT_EQ(
      code.run(merge.name.c_str(), queries * queryHeads, one.problem.pointers(merge, buffers)), 0);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(out, one.problem.out), 1e-5);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(lse, one.problem.lse), 1e-5);
}

} // namespace

TEST(AttendClauses, LogitsAreChangedInDecode) { checkDecode(true, ""); }

TEST(AttendClauses, ChosenEntriesOfHeadsAndRows) {
  checkDecode(false, "head:2, query:?");
  checkDecode(true, "head:2, query:?");
}

TEST(AttendClauses, ChosenEntriesOfQueryHeads) {
  checkDecode(false, "head:2, group:2");
  checkDecode(true, "head:2, group:2");
}

TEST(AttendClauses, LogitsAreChangedInPrefill) {
  ClauseCase one(true, "");
  one.computeReference();
  AttendSpec spec = one.spec();
  FailureOr<EmittedKernel> kernel = emitAttendPrefill(*one.kernels.module, spec);
  ASSERT_TRUE(succeeded(kernel));
  CompiledKernels code(*one.kernels.module, Isa::V3);
  std::vector<float> out(static_cast<size_t>(queries * heads * group * dim), NAN),
      lse(static_cast<size_t>(queries * heads * group), NAN);
  std::vector<int64_t> words{queries, 1};
  std::map<std::string, void *> buffers = one.buffers();
  buffers.insert({{"out", out.data()}, {"lse", lse.data()}, {"scalars", words.data()}});
  EXPECT_EQ(code.run(kernel->name.c_str(), heads, one.problem.pointers(*kernel, buffers)), 0);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(out, one.problem.out), 1e-5);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(lse, one.problem.lse), 1e-5);
}

TEST(AttendClauses, CodesAreNotReadOneByOne) {
  ClauseCase one(false, "head:2, query:?");
  AttendSpec spec = one.spec();
  spec.columns[0] = ::kvcache::test::columnOf(
      "recent<affine<4, tile(channel:20), min_f16, scale_f16, lsb(channel)>, keep(8), block(1)>",
      dim, ::kvcache::abi::ElementType::F16);
  EXPECT_NE(whyNotAttend(spec).find("at: expected exact keys"), std::string::npos);
}
