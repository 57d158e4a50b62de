// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tensors are compared in the order in which a method makes them: scores, indices, rows, codes,
// outputs. The first that differs is named; what follows from it is not.

#include "tools/commands/CompareResults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace kvcache::tools {

using rt::HeadContents;
using rt::Status;

double outputTolerance(abi::ElementType act, bool integerProducts) {
  return act != abi::ElementType::F32 ? largestTolerance : integerProducts ? 4e-4 : 1e-5;
}

namespace {

/// ||a - b|| / ||b||; infinite when a value is not finite or the sizes differ.
double relativeL2(const std::vector<float> &a, const std::vector<float> &b) {
  if (a.size() != b.size()) {
    return INFINITY;
  }
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) { // infinities of empty rows too
      norm += std::isfinite(b[i]) ? double(b[i]) * b[i] : 0;
      continue;
    }
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::isfinite(difference) ? std::sqrt(difference / std::max(norm, 1e-60)) : INFINITY;
}

class Comparer {
public:
  Comparer(const rt::Execution &execution, double tolerance, Comparison &result)
      : execution_(execution), outputTolerance_(tolerance), result_(result) {}

  void layer(int64_t layer, const LayerResult &actual, const LayerResult &reference) {
    layer_ = layer;
    tolerance_ = outputTolerance_;
    for (size_t head = 0; head < reference.heads.size() && result_.status.isOk(); ++head) {
      head_ = head;
      const std::vector<float> none;
      compareScores(head < actual.scores.size() ? actual.scores[head] : none,
                    head < reference.scores.size() ? reference.scores[head] : none);
      bool swapped = compareIndices(actual.heads[head], reference.heads[head],
                                    head < reference.scores.size() ? reference.scores[head] : none);
      if (swapped) {
        tolerance_ = std::max(tolerance_, 5e-2); // other rows, so other values: only close
      } else if (result_.status.isOk()) {
        compareRows(actual.heads[head], reference.heads[head]);
      }
    }
    head_ = size_t(-1);
    output("step.out", actual.stepOut, reference.stepOut);
    output("out", actual.out, reference.out);
    output("lse", actual.lse, reference.lse);
  }

private:
  /// Ops of the first kernel that covers an op of one of `families`.
  std::string opOf(std::initializer_list<const char *> families) const {
    for (const char *family : families) {
      for (const rt::KernelReport &kernel : execution_.kernels()) {
        for (const std::string &op : kernel.ops) {
          if (op.find(family) != std::string::npos) {
            return op + " (kernel " + kernel.name + ")";
          }
        }
      }
    }
    return "unknown";
  }

  void fail(const std::string &tensor, const std::string &what,
            std::initializer_list<const char *> families) {
    if (result_.status.isOk()) {
      std::string head = head_ == size_t(-1) ? "" : fmt::format(" head {}", head_);
      result_.status = Status::checkFailed(fmt::format(
          "--verify: layers.{}.{}{}: {} on {} and on the reference; first op that differs: {}",
          layer_, tensor, head, what, execution_.target(), opOf(families)));
    }
  }

  void compareScores(const std::vector<float> &a, const std::vector<float> &b) {
    if (a.empty() || b.empty()) {
      return; // not every target keeps what was ranked when nothing was cut
    }
    // A score near 0 may be a sum of large terms: it is as exact as the largest score allows.
    double largest = 0;
    for (float score : b) {
      largest = std::isfinite(score) ? std::max(largest, std::fabs(double(score))) : largest;
    }
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      bool close =
          a[i] == b[i] || std::fabs(double(a[i]) - b[i]) <=
                              scoreTolerance * (4 * std::fabs(double(b[i])) + 0.1 * largest);
      if (!close) {
        return fail("scores", fmt::format("token {} is {} and {}", i, a[i], b[i]),
                    {"score.", "reduce", "attend", "map"});
      }
    }
  }

  /// True when the sets differ by legal swaps.
  bool compareIndices(const HeadContents &a, const HeadContents &b,
                      const std::vector<float> &scores) {
    std::set<int32_t> ours(a.source.begin(), a.source.end()),
        theirs(b.source.begin(), b.source.end());
    std::vector<int32_t> extra, lost;
    std::set_difference(ours.begin(), ours.end(), theirs.begin(), theirs.end(),
                        std::back_inserter(extra));
    std::set_difference(theirs.begin(), theirs.end(), ours.begin(), ours.end(),
                        std::back_inserter(lost));
    if (extra.empty() && lost.empty()) {
      return false;
    }
    bool ranked = extra.size() == lost.size() &&
                  std::max(extra.back(), lost.back()) < static_cast<int64_t>(scores.size());
    double best = -INFINITY, worst = INFINITY;
    for (int32_t row : ranked ? lost : std::vector<int32_t>()) {
      best = std::max<double>(best, scores[row]);
    }
    for (int32_t row : ranked ? extra : std::vector<int32_t>()) {
      worst = std::min<double>(worst, scores[row]);
    }
    // A forced row ranks as +inf: it may only be changed for another one.
    bool close =
        best == worst || (std::isfinite(best) && best - worst <= scoreTolerance * std::fabs(best));
    if (!ranked || !close) {
      fail("indices",
           fmt::format(
               "{} rows kept and {}, first difference at row {}", ours.size(), theirs.size(),
               std::min(extra.empty() ? lost[0] : extra[0], lost.empty() ? extra[0] : lost[0])),
           {"select.", "topk", "gather"});
      return false;
    }
    result_.boundarySwaps += static_cast<int64_t>(extra.size());
    return true;
  }

  void compareRows(const HeadContents &a, const HeadContents &b) {
    if (a.positions != b.positions) {
      fail("pos", "positions differ", {"gather", "select."});
    }
    if (a.counts != b.counts) {
      fail("counts", "merged entries differ", {"merge."});
    }
    side("k", a.k, b.k, a.codedK, b.codedK);
    side("v", a.v, b.v, a.codedV, b.codedV);
  }

  void side(const std::string &name, const std::vector<float> &a, const std::vector<float> &b,
            const rt::CodedRows &codedA, const rt::CodedRows &codedB) {
    double error = relativeL2(a, b);
    // A code one step off at a rounding boundary is legal after a rotation, and so is a scale that
    // is the neighbouring f16; then the rows tell.
    double limit = tolerance_;
    if (codedB.rows > 0 && codedA.codes != codedB.codes) {
      limit = 2e-2;
    } else if (codedB.rows > 0 &&
               (codedA.scales != codedB.scales || codedA.zeros != codedB.zeros)) {
      limit = std::max(limit, 1e-3);
    }
    tolerance_ = std::max(tolerance_, std::min(limit, 1e-3)); // outputs are made of these rows
    // A recorded reference has rows alone.
    if (codedB.rows > 0 && (codedA.rows != codedB.rows || codedA.first != codedB.first)) {
      fail(name + ".codes",
           fmt::format("rows {} from {} are coded and {} from {}", codedA.rows, codedA.first,
                       codedB.rows, codedB.first),
           {"quantize.", "encode"});
    }
    if (!(error <= limit)) {
      fail(name, fmt::format("relative L2 difference {:.3g}, expected at most {:g},", error, limit),
           {"quantize.", "project.", "merge.", "encode", "gather"});
    }
    result_.worstError = std::max(result_.worstError, error);
  }

  void output(const std::string &name, const std::vector<float> &a, const std::vector<float> &b) {
    double error = relativeL2(a, b);
    if (!(error <= tolerance_)) {
      fail(name,
           fmt::format("relative L2 difference {:.3g}, expected at most {:g},", error, tolerance_),
           {"attend"});
    }
    result_.worstError = std::max(result_.worstError, error);
  }

  const rt::Execution &execution_;
  double outputTolerance_;
  Comparison &result_;
  int64_t layer_ = 0;
  size_t head_ = 0;
  double tolerance_ = 0;
};

} // namespace

Comparison compareResults(const ApplyResult &actual, const ApplyResult &reference,
                          const rt::Execution &execution, double tolerance) {
  Comparison result;
  Comparer comparer(execution, tolerance, result);
  for (size_t layer = 0; layer < reference.layers.size() && result.status.isOk(); ++layer) {
    comparer.layer(static_cast<int64_t>(layer), actual.layers[layer], reference.layers[layer]);
  }
  return result;
}

} // namespace kvcache::tools
