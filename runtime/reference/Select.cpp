// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The meaning of the selections. Scores are ranked as f32, so that equal f32 scores are ties on
// every target; ties go to the lowest index and kept indices ascend.

#include "runtime/reference/Primitives.h"

#include <algorithm>
#include <cmath>

namespace kvcache::rt::reference {

namespace {

Tensor emptySelection(const Tensor &s, const std::string &along, const std::string &instance) {
  std::vector<Axis> axes;
  for (const Axis &axis : s.axes) {
    if (axis.name != along) {
      axes.push_back(axis);
    }
  }
  axes.push_back({instance, s.extent(along)});
  Tensor result(axes);
  result.ragged = instance;
  result.lengths.assign(
      static_cast<size_t>(result.points() / std::max<int64_t>(1, s.extent(along))), 0);
  return result;
}

/// Scores of the i-th leading point as f32.
std::vector<float> rowOf(const Tensor &s, size_t axis, int64_t lead, std::vector<int64_t> &point) {
  int64_t rest = lead;
  for (size_t i = s.axes.size(); i-- > 0;) {
    if (i != axis) {
      point[i] = rest % s.axes[i].extent;
      rest /= s.axes[i].extent;
    }
  }
  std::vector<float> row;
  for (int64_t t = 0, n = s.lengthAt(axis, point); t < n; ++t) {
    point[axis] = t;
    row.push_back(static_cast<float>(s.at(point)));
  }
  return row;
}

void store(Tensor &selection, int64_t lead, const std::vector<int64_t> &kept) {
  int64_t capacity = selection.axes.back().extent;
  for (size_t i = 0; i < kept.size(); ++i) {
    selection.values[static_cast<size_t>(lead * capacity) + i] = static_cast<double>(kept[i]);
  }
  selection.lengths[static_cast<size_t>(lead)] = static_cast<int64_t>(kept.size());
}

Status needAxis(const Tensor &s, const std::string &along) {
  return s.find(along) >= 0 ? Status::ok()
                            : Status::badInput("expected axis '" + along + "' in the scores");
}

} // namespace

StatusOr<Tensor> topk(const Tensor &s, const std::string &along, const std::vector<int64_t> &counts,
                      Forced forced, const std::string &instance) {
  KVCACHE_RETURN_IF_ERROR(needAxis(s, along));
  size_t axis = static_cast<size_t>(s.find(along));
  Tensor result = emptySelection(s, along, instance);
  std::vector<int64_t> point(s.axes.size(), 0);
  for (int64_t lead = 0; lead < static_cast<int64_t>(result.lengths.size()); ++lead) {
    std::vector<float> row = rowOf(s, axis, lead, point);
    int64_t length = static_cast<int64_t>(row.size());
    int64_t wanted = counts.size() == 1 ? counts[0] : counts[static_cast<size_t>(lead)];
    int64_t n = std::min(std::max<int64_t>(wanted, 0), length);
    int64_t first = std::min(forced.first, n);
    int64_t last = std::min(forced.last, n - first);
    if (forced.allThatFit && wanted >= length) {
      first = length;
      last = 0;
    }
    std::vector<int64_t> kept, middle;
    for (int64_t t = 0; t < length; ++t) {
      float score = row[static_cast<size_t>(t)];
      bool isForced = t < first || t >= length - last;
      if (!isForced && std::isnan(score)) {
        return Status::badInput("the score of row " + std::to_string(t) + " is not a number");
      }
      (isForced ? kept : middle).push_back(t);
    }
    std::stable_sort(middle.begin(), middle.end(), [&](int64_t a, int64_t b) {
      return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
    });
    middle.resize(std::min(static_cast<size_t>(n - first - last), middle.size()));
    kept.insert(kept.end(), middle.begin(), middle.end());
    std::sort(kept.begin(), kept.end());
    store(result, lead, kept);
  }
  return result;
}

StatusOr<Tensor> globalTopkCounts(const Tensor &s, const std::string &along, int64_t total,
                                  const Prefix &prefix) {
  KVCACHE_RETURN_IF_ERROR(needAxis(s, along));
  if (s.axes.size() < 2 || s.axes.back().name != along) {
    return Status::badInput("expected scores [.., " + along + "] for an allocation over heads");
  }
  struct Entry {
    float score;
    int64_t lead;
  };
  Tensor counts(std::vector<Axis>(s.axes.begin(), s.axes.end() - 1));
  std::vector<Entry> entries;
  std::vector<int64_t> point(s.axes.size(), 0);
  int limited = prefix.axis.empty() ? -1 : s.find(prefix.axis);
  for (int64_t lead = 0; lead < counts.points(); ++lead) {
    std::vector<float> row = rowOf(s, s.axes.size() - 1, lead, point);
    if (limited >= 0 && point[static_cast<size_t>(limited)] >= prefix.count) {
      continue;
    }
    for (float score : row) {
      if (std::isnan(score)) {
        return Status::badInput("a score of head " + std::to_string(lead) + " is not a number");
      }
      entries.push_back({score, lead});
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry &a, const Entry &b) { return a.score > b.score; });
  for (int64_t i = 0; i < std::min<int64_t>(total, static_cast<int64_t>(entries.size())); ++i) {
    counts.values[static_cast<size_t>(entries[static_cast<size_t>(i)].lead)] += 1.0;
  }
  return counts;
}

StatusOr<Tensor> where(const Tensor &flags, const std::string &along, const std::string &instance) {
  KVCACHE_RETURN_IF_ERROR(needAxis(flags, along));
  Tensor result = emptySelection(flags, along, instance);
  std::vector<int64_t> point(flags.axes.size(), 0);
  for (int64_t lead = 0; lead < static_cast<int64_t>(result.lengths.size()); ++lead) {
    std::vector<float> row = rowOf(flags, static_cast<size_t>(flags.find(along)), lead, point);
    std::vector<int64_t> kept;
    for (size_t t = 0; t < row.size(); ++t) {
      if (row[t] != 0.0F) {
        kept.push_back(static_cast<int64_t>(t));
      }
    }
    store(result, lead, kept);
  }
  return result;
}

StatusOr<Tensor> complement(const Tensor &index, int64_t capacity,
                            const std::vector<int64_t> &lengths, const std::string &instance) {
  std::vector<Axis> axes(index.axes.begin(), index.axes.end() - 1);
  axes.push_back({instance, capacity});
  Tensor result(axes);
  result.ragged = instance;
  int64_t stride = index.axes.back().extent;
  // A selection that is not ragged has the same length at every leading point.
  std::vector<int64_t> selected = index.lengths;
  if (index.ragged.empty()) {
    int64_t leads = 1;
    for (size_t i = 0; i + 1 < index.axes.size(); ++i) {
      leads *= index.axes[i].extent;
    }
    selected.assign(static_cast<size_t>(leads), stride);
  }
  result.lengths.assign(selected.size(), 0);
  for (int64_t lead = 0; lead < static_cast<int64_t>(selected.size()); ++lead) {
    int64_t length = lengths.size() == 1 ? lengths[0] : lengths[static_cast<size_t>(lead)];
    std::vector<bool> named(static_cast<size_t>(length), false);
    for (int64_t i = 0; i < selected[static_cast<size_t>(lead)]; ++i) {
      named[static_cast<size_t>(index.values[static_cast<size_t>(lead * stride + i)])] = true;
    }
    std::vector<int64_t> rest;
    for (int64_t t = 0; t < length; ++t) {
      if (!named[static_cast<size_t>(t)]) {
        rest.push_back(t);
      }
    }
    store(result, lead, rest);
  }
  return result;
}

} // namespace kvcache::rt::reference
