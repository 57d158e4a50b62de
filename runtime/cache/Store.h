// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rows of one cache state of one layer of one sequence: a table of columns, ragged over its row
// heads, in pages of an arena. It decides which segment holds which row
// (runtime/abi/StorageLayout.h) and keeps the view that kernels read (runtime/abi/KernelAbi.h);
// kernels write the pages themselves.
//
// Invariant: of head h with n rows, a column holds `Sinks` [0, s), `Coded` [s, c), `Exact` [c, n)
// with s = min(sinks, n); each segment holds exactly the pages that its rows touch, and between
// `beginCode` and `endCode` also the coded pages of the rows that are due.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "runtime/cache/Arena.h"

#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt {

struct StoreColumn {
  std::string name;
  abi::ColumnLayout layout;
  /// Keys held before RoPE: a reader sees them rotated to their cache index.
  bool ropeView = false;
};

/// What all stores of one cache state have in common.
class StoreSchema {
public:
  /// `rowHeads` >= 1, at least one column.
  StoreSchema(std::string name, int64_t rowHeads, std::vector<StoreColumn> columns);

  struct Segment {
    int32_t column;
    abi::SegmentLayout layout;
  };
  const std::string &name() const { return name_; }
  int64_t rowHeads() const { return rowHeads_; }
  const std::vector<StoreColumn> &columns() const { return columns_; }
  /// Segments of all columns, in the order of the view.
  const std::vector<Segment> &segments() const { return segments_; }
  /// Number of the segment `kind` of a column, -1 when it has none.
  int32_t segment(int32_t column, abi::SegmentKind kind) const;
  /// Number of the column called `name`, -1 when there is none.
  int32_t column(const std::string &name) const;

private:
  std::string name_;
  int64_t rowHeads_;
  std::vector<StoreColumn> columns_;
  std::vector<Segment> segments_;
};

class Store {
public:
  /// An empty store. `arena` outlives it.
  Store(Arena &arena, std::shared_ptr<const StoreSchema> schema);
  ~Store();
  Store(const Store &) = delete;
  Store &operator=(const Store &) = delete;

  const StoreSchema &schema() const { return *schema_; }
  Arena &arena() const { return arena_; }

  int64_t rows(int64_t head) const { return rows_[head]; }
  /// The largest row count of a head.
  int64_t maxRows() const;
  /// Sum of the row counts of all heads.
  int64_t totalRows() const;
  /// How many rows of a head the `Coded` segment of a column holds.
  int64_t codedRows(int32_t column, int64_t head) const { return coded_[column * heads_ + head]; }

  /// Adds `count` rows to every head. Their content is undefined until a kernel writes it. On
  /// failure (Unavailable) the store is as before.
  Status grow(int64_t count);
  /// Cuts a head to its first `count` rows. Internal when it has fewer, or when that would split a
  /// block of rows coded together.
  Status truncate(int64_t head, int64_t count);

  /// One head's rows to encode now.
  struct Due {
    int64_t first = 0, end = 0;
  };
  /// Works out the rows of a column that a commit codes and reserves coded pages for them: `due`
  /// [H]. On failure nothing is due. Internal when the column is being coded already.
  Status beginCode(int32_t column, Due *due);
  /// The due rows have been encoded: they move from `Exact` to `Coded`.
  Status endCode(int32_t column);

  /// A deep copy. Unavailable when memory is out.
  StatusOr<std::unique_ptr<Store>> fork() const;

  /// The view of KernelAbi.h; valid until the next change of this store.
  int64_t *view() { return view_.data(); }
  const int64_t *view() const { return view_.data(); }
  /// Where row `row` of a head lies in segment `segment`: start of its page. The row is inside the
  /// segment.
  const char *page(int32_t segment, int64_t head, int64_t row) const;

  /// Bytes of the pages held.
  int64_t bytesMeasured() const { return account_.bytes; }
  /// What the formula says: bits of exact and coded rows, plus each row's share of the alignment
  /// and slack of its page.
  double bytesClaimed() const;
  /// Upper bound of bytesMeasured - bytesClaimed for one head: the pages that can be in part
  /// unused.
  int64_t bytesOnePage() const;
  /// Stored bits of the rows of a column, from the formula.
  double columnBits(int32_t column) const;

private:
  struct Held {
    int64_t first = 0, end = 0; ///< page numbers
  };
  int64_t record(int64_t segment, int64_t head) const {
    return 2 + heads_ + 3 * (segment * heads_ + head);
  }
  Status hold(int64_t segment, int64_t head, int64_t firstRow, int64_t endRow);
  Status holdHead(int64_t head, int64_t rows);
  void reserveTable(int64_t segment, int64_t pages);
  void rebuildView();
  void updateHead(int64_t head);

  Arena &arena_;
  std::shared_ptr<const StoreSchema> schema_;
  int64_t heads_;
  std::vector<int64_t> rows_;     ///< [H]
  std::vector<int64_t> coded_;    ///< [columns, H]
  std::vector<Due> due_;          ///< [columns, H], empty ranges when not coding
  std::vector<char> coding_;      ///< [columns]
  std::vector<int32_t> classes_;  ///< [S] size class in the arena
  std::vector<int64_t> capacity_; ///< [S] page table entries of each head
  std::vector<Held> held_;        ///< [S, H]
  std::vector<int64_t> view_;
  Arena::Account account_;
};

} // namespace kvcache::rt
