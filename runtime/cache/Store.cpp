// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the rows of a store move between segments and pages. Every change goes through `hold`, which
// makes a segment hold exactly the pages of a range of rows; nothing else takes or frees a page.

#include "runtime/cache/Store.h"

#include <algorithm>
#include <cstring>

namespace kvcache::rt {

using abi::SegmentKind;

StoreSchema::StoreSchema(std::string name, int64_t rowHeads, std::vector<StoreColumn> columns)
    : name_(std::move(name)), rowHeads_(rowHeads), columns_(std::move(columns)) {
  for (size_t c = 0; c < columns_.size(); ++c) {
    for (const abi::SegmentLayout &layout : columns_[c].layout.segments) {
      segments_.push_back({static_cast<int32_t>(c), layout});
    }
  }
}

int32_t StoreSchema::segment(int32_t column, SegmentKind kind) const {
  for (size_t g = 0; g < segments_.size(); ++g) {
    if (segments_[g].column == column && segments_[g].layout.kind == kind) {
      return static_cast<int32_t>(g);
    }
  }
  return -1;
}

int32_t StoreSchema::column(const std::string &name) const {
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (columns_[c].name == name) {
      return static_cast<int32_t>(c);
    }
  }
  return -1;
}

Store::Store(Arena &arena, std::shared_ptr<const StoreSchema> schema)
    : arena_(arena), schema_(std::move(schema)), heads_(schema_->rowHeads()), rows_(heads_, 0),
      coded_(schema_->columns().size() * heads_, 0), due_(coded_.size()),
      coding_(schema_->columns().size(), 0), capacity_(schema_->segments().size(), 4),
      held_(schema_->segments().size() * heads_) {
  for (const StoreSchema::Segment &segment : schema_->segments()) {
    classes_.push_back(arena_.sizeClass(segment.layout.pageBytes));
  }
  rebuildView();
}

Store::~Store() {
  for (size_t g = 0; g < capacity_.size(); ++g) {
    for (int64_t h = 0; h < heads_; ++h) {
      // An empty range only gives pages back, which cannot fail.
      (void)hold(static_cast<int64_t>(g), h, 0, 0);
    }
  }
}

int64_t Store::maxRows() const { return *std::max_element(rows_.begin(), rows_.end()); }

int64_t Store::totalRows() const {
  int64_t total = 0;
  for (int64_t rows : rows_) {
    total += rows;
  }
  return total;
}

/// Rows [first, end) of a head that a segment holds, when the head has `rows` rows of which `coded`
/// are coded.
static Store::Due rowsOf(const abi::ColumnLayout &layout, SegmentKind kind, int64_t rows,
                         int64_t coded) {
  int64_t sinks = layout.coded ? std::min(layout.sinks, rows) : 0;
  switch (kind) {
  case SegmentKind::Sinks:
    return {0, sinks};
  case SegmentKind::Coded:
    return {sinks, sinks + coded};
  case SegmentKind::Exact:
    return {sinks + coded, rows};
  }
  return {};
}

/// Makes a segment hold the pages of the rows [firstRow, endRow) of a head and no others.
Status Store::hold(int64_t segment, int64_t head, int64_t firstRow, int64_t endRow) {
  int64_t rowsPerPage = schema_->segments()[segment].layout.rowsPerPage;
  Held &held = held_[segment * heads_ + head];
  Held wanted;
  if (endRow > firstRow) {
    wanted = {firstRow / rowsPerPage, (endRow + rowsPerPage - 1) / rowsPerPage};
  }
  reserveTable(segment, wanted.end);
  int64_t *table = view_.data() + view_[record(segment, head) + 2];
  while (held.end > held.first && (held.first < wanted.first || wanted.first == wanted.end)) {
    arena_.release(classes_[segment], account_, table[held.first++]);
  }
  while (held.end > held.first && held.end > wanted.end) {
    arena_.release(classes_[segment], account_, table[--held.end]);
  }
  if (held.first == held.end) {
    held = {wanted.first, wanted.first};
  }
  for (; held.end < wanted.end; ++held.end) {
    KVCACHE_RETURN_IF_ERROR(arena_.allocate(classes_[segment], account_, table[held.end]));
  }
  return Status::ok();
}

/// Makes all segments hold the pages of `rows` rows of a head.
Status Store::holdHead(int64_t head, int64_t rows) {
  for (size_t g = 0; g < capacity_.size(); ++g) {
    const StoreSchema::Segment &segment = schema_->segments()[g];
    Due range = rowsOf(schema_->columns()[segment.column].layout, segment.layout.kind, rows,
                       codedRows(segment.column, head));
    if (segment.layout.kind == SegmentKind::Coded && coding_[segment.column]) {
      range.end = due_[segment.column * heads_ + head].end;
    }
    KVCACHE_RETURN_IF_ERROR(hold(static_cast<int64_t>(g), head, range.first, range.end));
  }
  return Status::ok();
}

Status Store::grow(int64_t count) {
  if (std::find(coding_.begin(), coding_.end(), 1) != coding_.end()) {
    return Status::internal("store '" + schema_->name() +
                            "' cannot grow while a column is being coded");
  }
  for (int64_t h = 0; h < heads_; ++h) {
    Status status = holdHead(h, rows_[h] + count);
    if (!status.isOk()) {
      for (int64_t back = h; back >= 0; --back) {
        // Fewer rows than now held: gives pages back, which cannot fail.
        (void)holdHead(back, rows_[back]);
      }
      return status;
    }
  }
  for (int64_t h = 0; h < heads_; ++h) {
    rows_[h] += count;
    updateHead(h);
  }
  return Status::ok();
}

Status Store::truncate(int64_t head, int64_t count) {
  if (count < 0 || count > rows_[head] ||
      std::find(coding_.begin(), coding_.end(), 1) != coding_.end()) {
    return Status::internal("store '" + schema_->name() + "' cannot cut " +
                            std::to_string(rows_[head]) + " rows of head " + std::to_string(head) +
                            " to " + std::to_string(count));
  }
  for (const StoreColumn &column : schema_->columns()) {
    int64_t coded = codedRows(static_cast<int32_t>(&column - schema_->columns().data()), head);
    int64_t left = std::max<int64_t>(0, count - column.layout.sinks);
    if (left < coded && left % column.layout.granule() != 0) {
      return Status::internal("store '" + schema_->name() + "' cannot cut head " +
                              std::to_string(head) + " to " + std::to_string(count) +
                              " rows: column '" + column.name + "' is coded in blocks of " +
                              std::to_string(column.layout.granule()) + " rows");
    }
  }
  for (size_t c = 0; c < schema_->columns().size(); ++c) {
    int64_t left = std::max<int64_t>(0, count - schema_->columns()[c].layout.sinks);
    coded_[c * heads_ + head] = std::min(coded_[c * heads_ + head], left);
  }
  rows_[head] = count;
  // No segment gets a row it did not have, so no page is taken and nothing can fail.
  (void)holdHead(head, count);
  updateHead(head);
  return Status::ok();
}

Status Store::beginCode(int32_t column, Due *due) {
  const abi::ColumnLayout &layout = schema_->columns()[column].layout;
  int32_t segment = schema_->segment(column, SegmentKind::Coded);
  if (segment < 0 || coding_[column]) {
    return Status::internal("column '" + schema_->columns()[column].name + "' of store '" +
                            schema_->name() +
                            (segment < 0 ? "' is not coded" : "' is being coded already"));
  }
  for (int64_t h = 0; h < heads_; ++h) {
    int64_t coded = codedRows(column, h);
    int64_t first = rowsOf(layout, SegmentKind::Coded, rows_[h], coded).end;
    int64_t count = std::max<int64_t>(0, layout.codedRowsAfterCommit(rows_[h]) - coded);
    due[h] = {first, first + count};
    due_[column * heads_ + h] = due[h];
    Status status = hold(segment, h, first - coded, first + count);
    if (!status.isOk()) {
      for (int64_t back = h; back >= 0; --back) {
        Due range = rowsOf(layout, SegmentKind::Coded, rows_[back], codedRows(column, back));
        // Only gives pages back.
        (void)hold(segment, back, range.first, range.end);
      }
      return status;
    }
  }
  coding_[column] = 1;
  return Status::ok();
}

Status Store::endCode(int32_t column) {
  if (!coding_[column]) {
    return Status::internal("column '" + schema_->columns()[column].name + "' of store '" +
                            schema_->name() + "' is not being coded");
  }
  coding_[column] = 0;
  for (int64_t h = 0; h < heads_; ++h) {
    const Due &due = due_[column * heads_ + h];
    if (due.end > due.first) {
      coded_[column * heads_ + h] += due.end - due.first;
      // The coded pages are there since beginCode; exact pages go. No page is taken.
      (void)holdHead(h, rows_[h]);
      updateHead(h);
    }
  }
  return Status::ok();
}

StatusOr<std::unique_ptr<Store>> Store::fork() const {
  auto copy = std::make_unique<Store>(arena_, schema_);
  copy->rows_ = rows_;
  copy->coded_ = coded_;
  for (int64_t h = 0; h < heads_; ++h) {
    KVCACHE_RETURN_IF_ERROR(copy->holdHead(h, rows_[h]));
    copy->updateHead(h);
  }
  for (size_t g = 0; g < capacity_.size(); ++g) {
    int64_t bytes = schema_->segments()[g].layout.pageBytes;
    for (int64_t h = 0; h < heads_; ++h) {
      const Held &held = copy->held_[g * heads_ + h];
      const int64_t *from = view_.data() + view_[record(static_cast<int64_t>(g), h) + 2];
      const int64_t *to = copy->view_.data() + copy->view_[record(static_cast<int64_t>(g), h) + 2];
      for (int64_t p = held.first; p < held.end; ++p) {
        std::memcpy(arena_.base() + to[p], arena_.base() + from[p], static_cast<size_t>(bytes));
      }
    }
  }
  return copy;
}

const char *Store::page(int32_t segment, int64_t head, int64_t row) const {
  int64_t number = row / schema_->segments()[segment].layout.rowsPerPage;
  return arena_.base() + view_[view_[record(segment, head) + 2] + number];
}

double Store::bytesClaimed() const {
  double bytes = 0;
  for (const StoreSchema::Segment &segment : schema_->segments()) {
    const abi::ColumnLayout &layout = schema_->columns()[segment.column].layout;
    double rowBytes = (segment.layout.kind == SegmentKind::Coded ? layout.bitsPerCodedRow()
                                                                 : layout.bitsPerExactRow()) /
                      8;
    double rowsPerPage = static_cast<double>(segment.layout.rowsPerPage);
    double overhead = static_cast<double>(Arena::pageFootprint(segment.layout.pageBytes)) -
                      rowsPerPage * rowBytes;
    for (int64_t h = 0; h < heads_; ++h) {
      Due range = rowsOf(layout, segment.layout.kind, rows_[h], codedRows(segment.column, h));
      bytes += static_cast<double>(range.end - range.first) * (rowBytes + overhead / rowsPerPage);
    }
  }
  return bytes;
}

int64_t Store::bytesOnePage() const {
  int64_t bytes = 0;
  for (const StoreSchema::Segment &segment : schema_->segments()) {
    const abi::ColumnLayout &layout = schema_->columns()[segment.column].layout;
    int64_t rowsPerPage = segment.layout.rowsPerPage;
    // A range of rows that need not start with a page leaves a page in part unused at both ends.
    bool startsInside =
        segment.layout.kind != SegmentKind::Sinks && layout.sinks % rowsPerPage != 0;
    if (layout.coded && segment.layout.kind == SegmentKind::Exact) {
      startsInside |= layout.block % rowsPerPage != 0 || layout.granule() % rowsPerPage != 0;
    }
    bytes += (startsInside ? 2 : 1) * Arena::pageFootprint(segment.layout.pageBytes);
  }
  return bytes;
}

double Store::columnBits(int32_t column) const {
  double bits = 0;
  for (int64_t h = 0; h < heads_; ++h) {
    bits += schema_->columns()[column].layout.bitsOf(rows_[h], codedRows(column, h));
  }
  return bits;
}

/// Makes room for page numbers below `pages` in the tables of a segment.
void Store::reserveTable(int64_t segment, int64_t pages) {
  if (pages > capacity_[segment]) {
    capacity_[segment] = std::max(pages, 2 * capacity_[segment]);
    rebuildView();
  }
}

/// Lays the view out anew for the current capacities, keeping records and page tables.
void Store::rebuildView() {
  int64_t segments = static_cast<int64_t>(capacity_.size());
  int64_t words = record(segments, 0);
  for (int64_t capacity : capacity_) {
    words += heads_ * capacity;
  }
  std::vector<int64_t> old(words, 0);
  old.swap(view_);
  if (!old.empty()) {
    std::copy(old.begin(), old.begin() + record(segments, 0), view_.begin());
  }
  view_[0] = heads_;
  view_[1] = segments;
  int64_t table = record(segments, 0);
  for (int64_t g = 0; g < segments; ++g) {
    for (int64_t h = 0; h < heads_; ++h) {
      const Held &held = held_[g * heads_ + h];
      int64_t before = view_[record(g, h) + 2];
      for (int64_t p = held.first; p < held.end; ++p) {
        view_[table + p] = old[before + p];
      }
      view_[record(g, h) + 2] = table;
      table += capacity_[g];
    }
  }
}

/// Writes the row counts of a head into the view.
void Store::updateHead(int64_t head) {
  view_[2 + head] = rows_[head];
  for (size_t g = 0; g < capacity_.size(); ++g) {
    const StoreSchema::Segment &segment = schema_->segments()[g];
    Due range = rowsOf(schema_->columns()[segment.column].layout, segment.layout.kind, rows_[head],
                       codedRows(segment.column, head));
    int64_t r = record(static_cast<int64_t>(g), head);
    view_[r] = range.first;
    view_[r + 1] = range.end;
  }
}

} // namespace kvcache::rt
