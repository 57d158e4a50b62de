// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The meaning of the ops that make selections out of selections, or that share a total: union,
// expand, items that fit, proportional shares.

#include "runtime/reference/Primitives.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace kvcache::rt::reference {

namespace {

/// The positions that a selection names where `point` (over `axes`) lies along its leading axes.
std::vector<int64_t> namedAt(const Tensor &index, const std::vector<Axis> &axes,
                             const std::vector<int64_t> &point) {
  std::vector<int64_t> own(index.axes.size(), 0);
  for (size_t i = 0; i + 1 < index.axes.size(); ++i) {
    for (size_t j = 0; j < axes.size(); ++j) {
      own[i] = axes[j].name == index.axes[i].name ? point[j] : own[i];
    }
  }
  size_t last = index.axes.size() - 1;
  std::vector<int64_t> named;
  for (int64_t i = 0, n = index.lengthAt(last, own); i < n; ++i) {
    own[last] = i;
    named.push_back(static_cast<int64_t>(index.at(own)));
  }
  return named;
}

/// A selection over `lead`, whose last axis is as long as the longest row.
Tensor selectionOf(const std::vector<Axis> &lead, const std::vector<std::vector<int64_t>> &rows,
                   const std::string &instance) {
  int64_t longest = 0;
  for (const std::vector<int64_t> &row : rows) {
    longest = std::max(longest, static_cast<int64_t>(row.size()));
  }
  std::vector<Axis> axes = lead;
  axes.push_back({instance, longest});
  Tensor result(axes);
  result.ragged = instance;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy(rows[i].begin(), rows[i].end(),
              result.values.begin() + static_cast<int64_t>(i) * longest);
    result.lengths.push_back(static_cast<int64_t>(rows[i].size()));
  }
  return result;
}

} // namespace

Tensor unite(const Tensor &a, const Tensor &b, const std::string &instance) {
  const Tensor &wide = a.axes.size() < b.axes.size() ? b : a;
  std::vector<Axis> lead(wide.axes.begin(), wide.axes.end() - 1);
  std::vector<std::vector<int64_t>> rows;
  forEachPoint(Tensor(lead), [&](const std::vector<int64_t> &point) {
    std::set<int64_t> named;
    for (const Tensor *index : {&a, &b}) {
      std::vector<int64_t> own = namedAt(*index, lead, point);
      named.insert(own.begin(), own.end());
    }
    rows.emplace_back(named.begin(), named.end());
  });
  return selectionOf(lead, rows, instance);
}

StatusOr<Tensor> expand(const Tensor &blocks, int64_t size, const std::vector<int64_t> &lengths,
                        const std::string &instance) {
  if (size < 1) {
    return Status::badInput("expected blocks of at least one position, got " +
                            std::to_string(size));
  }
  std::vector<Axis> lead(blocks.axes.begin(), blocks.axes.end() - 1);
  std::vector<std::vector<int64_t>> rows;
  forEachPoint(Tensor(lead), [&](const std::vector<int64_t> &point) {
    int64_t length = lengths.size() == 1 ? lengths[0] : lengths[rows.size()];
    std::vector<int64_t> row;
    for (int64_t block : namedAt(blocks, lead, point)) {
      for (int64_t i = block * size; i < std::min((block + 1) * size, length); ++i) {
        row.push_back(i);
      }
    }
    rows.push_back(row);
  });
  return selectionOf(lead, rows, instance);
}

StatusOr<Tensor> fit(const Tensor &s, const std::string &along, const std::vector<int64_t> &sizes,
                     const std::vector<int64_t> &totals, const std::string &instance) {
  auto axis = static_cast<size_t>(s.find(along));
  std::vector<Axis> lead = s.axes;
  lead.erase(lead.begin() + static_cast<int64_t>(axis));
  struct Item {
    float score;
    int64_t at, size;
  };
  std::vector<std::vector<int64_t>> rows;
  Status bad = Status::ok();
  forEachPoint(Tensor(lead), [&](const std::vector<int64_t> &point) {
    std::vector<int64_t> full = point;
    full.insert(full.begin() + static_cast<int64_t>(axis), 0);
    std::vector<Item> items;
    for (int64_t i = 0, n = s.lengthAt(axis, full); i < n; ++i) {
      full[axis] = i;
      int64_t flat = 0;
      for (size_t a = 0; a < full.size(); ++a) {
        flat = flat * s.axes[a].extent + full[a];
      }
      items.push_back({static_cast<float>(s.at(full)), i,
                       std::max<int64_t>(0, sizes[static_cast<size_t>(flat)])});
      if (std::isnan(items.back().score)) {
        bad = Status::badInput("the score of item " + std::to_string(i) + " is not a number");
      }
    }
    std::stable_sort(items.begin(), items.end(),
                     [](const Item &a, const Item &b) { return a.score > b.score; });
    int64_t left = std::max<int64_t>(0, totals[totals.size() == 1 ? 0 : rows.size()]);
    std::vector<int64_t> taken;
    for (const Item &item : items) {
      if (item.size <= left) {
        left -= item.size;
        taken.push_back(item.at);
      }
    }
    std::sort(taken.begin(), taken.end());
    rows.push_back(taken);
  });
  KVCACHE_RETURN_IF_ERROR(bad);
  return selectionOf(lead, rows, instance);
}

namespace {

/// One point of an allocation.
struct Share {
  double weight = 0.0;
  int64_t floor = 0, cap = 0;
  bool open = true;
  double exact = 0.0; ///< of the rest, when open
  int64_t count = 0;
};

/// The exact shares of the open points; equal weights where theirs are all 0.
void shareRest(std::vector<Share> &shares, int64_t total) {
  int64_t rest = total, open = 0;
  double weights = 0.0;
  for (const Share &share : shares) {
    rest -= share.open ? share.floor : share.cap;
    weights += share.open ? share.weight : 0.0;
    open += share.open ? 1 : 0;
  }
  double units = static_cast<double>(std::max<int64_t>(rest, 0));
  for (Share &share : shares) {
    share.exact =
        weights == 0.0 ? units / static_cast<double>(open) : units * share.weight / weights;
  }
}

/// Closes every open point whose share exceeds its cap; false when there is none.
bool closeFull(std::vector<Share> &shares) {
  bool any = false;
  for (Share &share : shares) {
    if (share.open &&
        static_cast<double>(share.floor) + share.exact > static_cast<double>(share.cap)) {
      share.open = false;
      share.count = share.cap;
      any = true;
    }
  }
  return any;
}

/// Gives the units that whole shares leave to the largest fractions, one each.
void giveLeftovers(std::vector<Share> &shares, int64_t total) {
  std::vector<size_t> order;
  int64_t left = total;
  for (size_t i = 0; i < shares.size(); ++i) {
    Share &share = shares[i];
    if (share.open) {
      share.count = share.floor + static_cast<int64_t>(std::floor(share.exact));
      if (share.count < share.cap) {
        order.push_back(i);
      }
    }
    left -= share.count;
  }
  auto fraction = [&](size_t i) { return shares[i].exact - std::floor(shares[i].exact); };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return fraction(a) > fraction(b); });
  for (size_t i = 0; i < order.size() && left > 0; ++i, --left) {
    ++shares[order[i]].count;
  }
}

} // namespace

StatusOr<Tensor> proportionalCounts(const Tensor &weights, int64_t total,
                                    const std::vector<int64_t> &floors,
                                    const std::vector<int64_t> &caps) {
  std::vector<Share> shares;
  for (size_t i = 0; i < weights.values.size(); ++i) {
    Share share;
    share.weight = static_cast<float>(weights.values[i]);
    if (!std::isfinite(share.weight) || share.weight < 0.0) {
      return Status::badInput("expected weights of at least 0, got " +
                              std::to_string(weights.values[i]));
    }
    share.cap = caps.empty() ? INT32_MAX : std::max<int64_t>(0, caps[i]);
    share.floor = std::min(floors.empty() ? 0 : std::max<int64_t>(0, floors[i]), share.cap);
    shares.push_back(share);
  }
  do {
    shareRest(shares, total);
  } while (closeFull(shares));
  giveLeftovers(shares, total);
  Tensor result(weights.axes);
  for (size_t i = 0; i < shares.size(); ++i) {
    result.values[i] = static_cast<double>(shares[i].count);
  }
  return result;
}

} // namespace kvcache::rt::reference
