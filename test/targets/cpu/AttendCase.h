// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One attention problem over a paged store, and its answer in double precision from the decoded
// rows: what the emitted kernels are compared with.

#pragma once

#include "targets/cpu/Attend.h"
#include "test/targets/cpu/CompiledKernels.h"
#include "test/targets/cpu/PagedStore.h"

#include <cmath>
#include <limits>
#include <map>

namespace mlir::kvcache::cpu::test {

namespace abi = ::kvcache::abi;
using ::kvcache::test::PagedStore;

/// Formats and sizes of a problem. Heads have `rows[h]` rows; the store codes what its storage
/// codes after a commit.
struct AttendShape {
  std::string k = "f32", v = "f32";
  int64_t group = 1, headDim = 64;
  std::vector<int64_t> rows{64};
  int64_t sharing = 1; ///< > 1: so many KV heads lie in the rows of the store's one head
  int64_t queryRows = 1;
  bool causal = true;
  int64_t window = 0;
  bool ropeView = false;
  Isa isa = Isa::V4;
  bool integers = false; ///< integer products
  abi::ElementType act = abi::ElementType::F16;

  std::string str() const {
    return "k=" + k + " v=" + v + " G=" + std::to_string(group) + " D=" + std::to_string(headDim) +
           " T=" + std::to_string(rows[0]) +
           (sharing > 1 ? " heads of a row=" + std::to_string(sharing) : "");
  }
};

/// Relative L2 distance of `got` to `want`; infinite where exactly one of two values is finite.
inline double distance(const std::vector<float> &got, const std::vector<double> &want) {
  double difference = 0, size = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isinf(want[i]) || !std::isfinite(got[i])) {
      if (static_cast<double>(got[i]) != want[i]) {
        return std::numeric_limits<double>::infinity();
      }
      continue;
    }
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(difference / size);
}

/// Fills the stack that a kernel called next will use with what is not a number.
[[gnu::noinline]] inline void poisonStack() {
  volatile uint32_t words[1 << 17];
  for (size_t i = 0; i < std::size(words); ++i) {
    words[i] = 0xFFFFFFFF;
  }
}

class AttendCase {
public:
  explicit AttendCase(AttendShape shape, uint32_t seed = 7)
      : shape_(std::move(shape)),
        columns_{::kvcache::test::columnOf(shape_.k, shape_.sharing * shape_.headDim, shape_.act),
                 ::kvcache::test::columnOf(shape_.v, shape_.sharing * shape_.headDim, shape_.act),
                 ::kvcache::test::columnOf("i32", 1)},
        store_(columns_, shape_.rows, codedRows()), random_(seed) {
    store_.fill(seed);
    int64_t longest = *std::max_element(shape_.rows.begin(), shape_.rows.end());
    for (int64_t h = 0; h < store_.heads(); ++h) {
      for (int64_t row = 0; row < store_.rows(h); ++row) {
        store_.setExact(2, h, row, 0,
                        static_cast<double>(2 * row + static_cast<int64_t>(random_() % 2)));
      }
    }
    fill(q, shape_.queryRows * queryHeads() * shape_.headDim, 2.0f);
    for (int64_t r = 0; r < shape_.queryRows; ++r) {
      qpos.push_back(static_cast<int32_t>(2 * (longest - shape_.queryRows + r) + 1));
    }
    makeArtefacts(0, kBasis, kMean);
    makeArtefacts(1, vBasis, vMean);
    for (int64_t row = 0; row < longest; ++row) {
      for (int64_t half = 0; half < 2; ++half) {
        for (int64_t i = 0; i < shape_.headDim / 2; ++i) {
          double angle =
              static_cast<double>(row) * std::pow(10000.0, -2.0 * static_cast<double>(i) /
                                                               static_cast<double>(shape_.headDim));
          rope.push_back(static_cast<float>(half == 0 ? std::cos(angle) : std::sin(angle)));
        }
      }
    }
  }

  const AttendShape &shape() const { return shape_; }
  int64_t kvHeads() const { return store_.heads() * shape_.sharing; }
  /// The head of the store that holds the rows of a KV head.
  int64_t storeHead(int64_t kvHead) const { return kvHead / shape_.sharing; }
  int64_t queryHeads() const { return kvHeads() * shape_.group; }
  int64_t capacity() const { return *std::max_element(shape_.rows.begin(), shape_.rows.end()) + 5; }
  PagedStore &store() { return store_; }

  AttendSpec spec() const {
    AttendSpec spec;
    spec.name = "attend";
    spec.queryHeads = queryHeads();
    spec.kvHeads = kvHeads();
    spec.headDim = shape_.headDim;
    spec.columns = columns_;
    spec.causal = shape_.causal;
    spec.window = shape_.window;
    spec.ropeView = shape_.ropeView;
    spec.sharesRows = shape_.sharing > 1;
    spec.wantsLse = spec.wantsLogits = true;
    spec.splitRows = 256;
    spec.accumulators = shape_.isa == Isa::V4 ? 16 : 4;
    spec.integerProducts = shape_.integers;
    return spec;
  }

  /// The arguments of a kernel in its order: the problem's own buffers and `more`. The call that
  /// follows finds a poisoned stack.
  std::vector<void *> pointers(const EmittedKernel &kernel, std::map<std::string, void *> more) {
    poisonStack();
    more.insert({{"q", q.data()},
                 {"qpos", qpos.data()},
                 {"rope", rope.data()},
                 {"kBasis", kBasis.data()},
                 {"kMean", kMean.data()},
                 {"vBasis", vBasis.data()},
                 {"vMean", vMean.data()}});
    std::vector<void *> args;
    for (const KernelArg &arg : kernel.args) {
      if (arg.kind == KernelArg::Kind::Store) {
        args.push_back(store_.arena().data());
        args.push_back(store_.view().data());
      } else {
        args.push_back(more.at(arg.name));
      }
    }
    return args;
  }

  /// The row of a KV head as a reader sees it.
  std::vector<double> row(int64_t c, int64_t kvHead, int64_t t) {
    int64_t head = storeHead(kvHead);
    const abi::ColumnLayout &layout = columns_[static_cast<size_t>(c)];
    std::vector<double> values(static_cast<size_t>(layout.width));
    bool coded = store_.kindOf(c, head, t) == abi::SegmentKind::Coded;
    for (int64_t i = 0; i < layout.width; ++i) {
      double &value = values[static_cast<size_t>(i)];
      if (!coded) {
        value = store_.exact(c, head, t, i);
      } else if (layout.rank > 0) {
        const std::vector<float> &basis = c == 0 ? kBasis : vBasis;
        value = (c == 0 ? kMean : vMean)[static_cast<size_t>(head * layout.width + i)];
        for (int64_t r = 0; r < layout.rank; ++r) {
          value += store_.exact(c, head, t, r) *
                   basis[static_cast<size_t>((head * layout.width + i) * layout.rank + r)];
        }
      } else {
        value = store_.decoded(c, head, t, i);
      }
    }
    if (coded && layout.rotated) {
      rotate(values);
    }
    auto own = values.begin() + kvHead % shape_.sharing * shape_.headDim;
    values = {own, own + shape_.headDim};
    return c == 0 && shape_.ropeView ? turned(values, t) : values;
  }

  /// Fills `logits` [R, Hq, capacity], `lse` [R, Hq], `out` [R, Hq, D].
  void computeReference() {
    int64_t heads = queryHeads(), dim = shape_.headDim;
    logits.assign(static_cast<size_t>(shape_.queryRows * heads * capacity()), 0);
    lse.assign(static_cast<size_t>(shape_.queryRows * heads), 0);
    out.assign(static_cast<size_t>(shape_.queryRows * heads * dim), 0);
    for (int64_t h = 0; h < kvHeads(); ++h) {
      std::vector<std::vector<double>> keys, values;
      for (int64_t t = 0; t < store_.rows(storeHead(h)); ++t) {
        keys.push_back(row(0, h, t));
        values.push_back(row(1, h, t));
      }
      for (int64_t r = 0; r < shape_.queryRows; ++r) {
        for (int64_t g = 0; g < shape_.group; ++g) {
          attendRow(r, h, h * shape_.group + g, keys, values);
        }
      }
    }
  }
  bool visible(int64_t r, int64_t head, int64_t t) {
    auto distance =
        qpos[static_cast<size_t>(r)] - static_cast<int64_t>(store_.exact(2, storeHead(head), t, 0));
    return (!shape_.causal || distance >= 0) && (shape_.window == 0 || distance < shape_.window);
  }

  std::vector<float> q, kBasis, kMean, vBasis, vMean, rope;
  std::vector<int32_t> qpos;
  std::vector<double> logits, lse, out;

private:
  std::vector<std::vector<int64_t>> codedRows() const {
    std::vector<std::vector<int64_t>> coded;
    for (const abi::ColumnLayout &layout : columns_) {
      coded.emplace_back();
      for (int64_t rows : shape_.rows) {
        coded.back().push_back(layout.codedRowsAfterCommit(rows));
      }
    }
    return coded;
  }
  void fill(std::vector<float> &to, int64_t n, float scale) {
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t i = 0; i < n; ++i) {
      to.push_back(normal(random_));
    }
  }
  void makeArtefacts(size_t c, std::vector<float> &basis, std::vector<float> &mean) {
    fill(basis, kvHeads() * shape_.headDim * columns_[c].rank, 0.2f);
    fill(mean, columns_[c].rank > 0 ? kvHeads() * shape_.headDim : 0, 0.5f);
  }
  /// Orthonormal Hadamard matrix (Sylvester order) times `values`.
  static void rotate(std::vector<double> &values) {
    std::vector<double> in = values;
    for (size_t i = 0; i < in.size(); ++i) {
      values[i] = 0;
      for (size_t j = 0; j < in.size(); ++j) {
        values[i] += (__builtin_popcountll(i & j) % 2 ? -in[j] : in[j]) /
                     std::sqrt(static_cast<double>(in.size()));
      }
    }
  }
  /// RoPE of half-split pairs to position t, by the table.
  std::vector<double> turned(const std::vector<double> &values, int64_t t) const {
    std::vector<double> result = values;
    size_t half = values.size() / 2, at = static_cast<size_t>(t) * values.size();
    for (size_t i = 0; i < half; ++i) {
      double c = rope[at + i], s = rope[at + half + i];
      result[i] = values[i] * c - values[half + i] * s;
      result[half + i] = values[half + i] * c + values[i] * s;
    }
    return result;
  }
  void attendRow(int64_t r, int64_t head, int64_t queryHead,
                 const std::vector<std::vector<double>> &keys,
                 const std::vector<std::vector<double>> &values) {
    constexpr double never = -std::numeric_limits<double>::infinity();
    auto headRow = static_cast<size_t>(r * queryHeads() + queryHead);
    auto dim = static_cast<size_t>(shape_.headDim);
    double largest = never, total = 0;
    double *z = &logits[headRow * static_cast<size_t>(capacity())];
    for (size_t t = 0; t < keys.size(); ++t) {
      double dot = 0;
      for (size_t i = 0; i < dim; ++i) {
        dot += keys[t][i] * q[headRow * dim + i];
      }
      z[t] = visible(r, head, static_cast<int64_t>(t)) ? dot / std::sqrt(static_cast<double>(dim))
                                                       : never;
      largest = std::max(largest, z[t]);
    }
    if (largest == never) {
      lse[headRow] = never;
      return;
    }
    for (size_t t = 0; t < keys.size(); ++t) {
      double p = std::exp(z[t] - largest);
      total += p;
      for (size_t i = 0; i < dim; ++i) {
        out[headRow * dim + i] += p * values[t][i];
      }
    }
    for (size_t i = 0; i < dim; ++i) {
      out[headRow * dim + i] /= total;
    }
    lse[headRow] = largest + std::log(total);
  }

  AttendShape shape_;
  std::vector<abi::ColumnLayout> columns_;
  PagedStore store_;
  std::mt19937 random_;
};

} // namespace mlir::kvcache::cpu::test
