// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Growing, reading, cutting and coding row lists.

#include "targets/reference/CacheTable.h"

#include "runtime/reference/Primitives.h"

#include <algorithm>

namespace mlir::kvcache::reference {

using ::kvcache::abi::ColumnLayout;
using rt::reference::CodedBlock;
using rt::reference::FactorSide;

int CacheSchema::find(StringRef name) const {
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].name == name) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

int64_t CacheSchema::lists() const {
  int64_t count = 1;
  for (const Axis &axis : lead) {
    count *= axis.extent;
  }
  return count;
}

std::vector<int64_t> CacheSchema::leadPoint(int64_t list) const {
  std::vector<int64_t> point(lead.size());
  for (size_t i = lead.size(); i-- > 0;) {
    point[i] = list % lead[i].extent;
    list /= lead[i].extent;
  }
  return point;
}

static StatusOr<std::vector<Axis>> staticAxes(ArrayRef<AxisAttr> axes) {
  std::vector<Axis> result;
  for (AxisAttr axis : axes) {
    std::optional<int64_t> extent = axis.getInteger();
    if (!extent) {
      return Status::badInput("expected an extent that is known, got axis '" + axis.str() + "'");
    }
    result.push_back({axis.getName(), *extent});
  }
  return result;
}

StatusOr<std::shared_ptr<const CacheSchema>> makeSchema(CacheType type,
                                                        ::kvcache::abi::ElementType act) {
  auto schema = std::make_shared<CacheSchema>();
  StatusOr<std::vector<Axis>> lead = staticAxes(type.getRows().drop_back());
  KVCACHE_RETURN_IF_ERROR(lead.status());
  schema->lead = *lead;
  schema->rowAxis = type.getRows().back().getName();
  const char *names[] = {"head", "group"};
  for (size_t i = 0; i < schema->lead.size(); ++i) {
    if (i >= 2 || schema->lead[i].name != names[i]) {
      return Status::badInput(
          "expected row axes [token], [head, token] or [head, group, token] of a cache");
    }
  }
  for (ColumnAttr column : type.getColumns()) {
    StatusOr<std::vector<Axis>> features = staticAxes(column.getAxes());
    KVCACHE_RETURN_IF_ERROR(features.status());
    ColumnSchema entry{column.getName().str(), *features, {}};
    int64_t width = 1;
    for (const Axis &axis : entry.features) {
      width *= axis.extent;
    }
    std::string error;
    std::optional<ColumnLayout> layout =
        ::kvcache::abi::computeColumnLayout(*column.getStorage().getTerm(), width, act, error);
    if (!layout) {
      return Status::badInput("column '" + entry.name + "': " + error);
    }
    entry.layout = *layout;
    schema->columns.push_back(std::move(entry));
  }
  return std::shared_ptr<const CacheSchema>(std::move(schema));
}

CacheTable::CacheTable(std::shared_ptr<const CacheSchema> schemaIn) : schema(std::move(schemaIn)) {
  RowList empty;
  empty.columns.resize(schema->columns.size());
  empty.coded.resize(schema->columns.size());
  lists.assign(static_cast<size_t>(schema->lists()), empty);
}

int64_t CacheTable::maxRows() const {
  int64_t most = 0;
  for (const RowList &list : lists) {
    most = std::max(most, list.rows());
  }
  return most;
}

std::vector<int64_t> CacheTable::rowCounts() const {
  std::vector<int64_t> counts;
  for (const RowList &list : lists) {
    counts.push_back(list.rows());
  }
  return counts;
}

/// The axis of appended values that runs over new rows: of kind query or token.
static int rowAxisOf(const Tensor &value) {
  for (size_t i = 0; i < value.axes.size(); ++i) {
    std::string kind = value.axes[i].name.substr(0, value.axes[i].name.find('.'));
    if (kind == "query" || kind == "token") {
      return static_cast<int>(i);
    }
  }
  return -1;
}

/// Axes [lead.., `rowAxis`, features..] of one column.
static std::vector<Axis> columnAxes(const CacheSchema &schema, const ColumnSchema &column,
                                    const Axis &rowAxis) {
  std::vector<Axis> axes = schema.lead;
  axes.push_back(rowAxis);
  axes.insert(axes.end(), column.features.begin(), column.features.end());
  return axes;
}

Status CacheTable::append(const std::vector<std::pair<std::string, const Tensor *>> &values) {
  int64_t added = -1;
  for (const auto &[name, value] : values) {
    int axis = rowAxisOf(*value);
    if (schema->find(name) < 0 || axis < 0) {
      return Status::badInput("expected rows of a column of the cache, got '" + name + "'");
    }
    int64_t rows = value->axes[static_cast<size_t>(axis)].extent;
    if (added >= 0 && rows != added) {
      return Status::badInput("expected the same number of new rows in every column, got " +
                              std::to_string(added) + " and " + std::to_string(rows) + " ('" +
                              name + "')");
    }
    added = rows;
  }
  added = std::max<int64_t>(added, 0);
  for (size_t c = 0; c < schema->columns.size(); ++c) {
    const ColumnSchema &column = schema->columns[c];
    const Tensor *value = nullptr;
    for (const auto &[name, tensor] : values) {
      value = name == column.name ? tensor : value;
    }
    std::vector<double> rows(static_cast<size_t>(schema->lists() * added * column.layout.width),
                             0.0);
    if (value) {
      Tensor shape(columnAxes(*schema, column,
                              {value->axes[static_cast<size_t>(rowAxisOf(*value))].name, added}));
      size_t at = 0;
      forEachPoint(shape, [&](const std::vector<int64_t> &point) {
        rows[at++] =
            rt::reference::roundTo(column.layout.exactElem, broadcastAt(*value, shape.axes, point));
      });
    }
    int64_t stride = added * column.layout.width;
    for (size_t l = 0; l < lists.size(); ++l) {
      auto from = rows.begin() + static_cast<int64_t>(l) * stride;
      lists[l].columns[c].insert(lists[l].columns[c].end(), from, from + stride);
    }
  }
  for (RowList &list : lists) {
    for (int64_t r = 0; r < added; ++r) {
      list.source.push_back(list.arrived++);
      list.merged.push_back(0.0);
    }
  }
  return Status::ok();
}

StatusOr<Tensor> CacheTable::column(StringRef name) const {
  int c = schema->find(name);
  if (c < 0) {
    return Status::badInput("the cache has no column '" + name.str() + "'");
  }
  const ColumnSchema &column = schema->columns[static_cast<size_t>(c)];
  Tensor result(columnAxes(*schema, column, {schema->rowAxis, maxRows()}));
  int64_t stride = maxRows() * column.layout.width;
  for (size_t l = 0; l < lists.size(); ++l) {
    const std::vector<double> &rows = lists[l].columns[static_cast<size_t>(c)];
    std::copy(rows.begin(), rows.end(), result.values.begin() + static_cast<int64_t>(l) * stride);
  }
  result.ragged = schema->rowAxis;
  result.lengths = rowCounts();
  return result;
}

Status CacheTable::setColumn(StringRef name, const TensorValue &value) {
  int c = schema->find(name);
  if (c < 0) {
    return Status::badInput("the cache has no column '" + name.str() + "'");
  }
  const ColumnSchema &column = schema->columns[static_cast<size_t>(c)];
  int rowAxis = rowAxisOf(value.tensor);
  std::string rowName =
      rowAxis < 0 ? schema->rowAxis : value.tensor.axes[static_cast<size_t>(rowAxis)].name;
  Tensor shape(columnAxes(*schema, column, {rowName, maxRows()}));
  shape.ragged = rowName;
  shape.lengths = rowCounts();
  if (rowAxis >= 0 && value.tensor.axes[static_cast<size_t>(rowAxis)].extent < maxRows()) {
    return Status::badInput("expected " + std::to_string(maxRows()) + " rows for column '" +
                            name.str() + "', got " +
                            std::to_string(value.tensor.axes[static_cast<size_t>(rowAxis)].extent));
  }
  for (RowList &list : lists) {
    if (list.coded[static_cast<size_t>(c)].rows > 0) {
      return Status::badInput("column '" + name.str() +
                              "' has coded rows, which cannot be replaced");
    }
    list.columns[static_cast<size_t>(c)].clear();
  }
  size_t rowsPerList = static_cast<size_t>(maxRows() * column.layout.width);
  forEachPoint(shape, [&](const std::vector<int64_t> &point) {
    size_t list = rowsPerList == 0 ? 0 : static_cast<size_t>(shape.offset(point)) / rowsPerList;
    lists[list].columns[static_cast<size_t>(c)].push_back(rt::reference::roundTo(
        column.layout.exactElem, broadcastAt(value.tensor, shape.axes, point)));
  });
  if (value.merged) {
    Tensor rows(columnAxes(*schema, ColumnSchema(), {rowName, maxRows()}));
    for (size_t l = 0; l < lists.size(); ++l) {
      for (int64_t r = 0; r < lists[l].rows(); ++r) {
        std::vector<int64_t> point = schema->leadPoint(static_cast<int64_t>(l));
        point.push_back(r);
        lists[l].merged[static_cast<size_t>(r)] += broadcastAt(*value.merged, rows.axes, point);
      }
    }
  }
  return Status::ok();
}

template <typename T>
static std::vector<T> picked(const std::vector<T> &rows, const std::vector<int64_t> &kept,
                             int64_t width) {
  std::vector<T> result;
  result.reserve(kept.size() * static_cast<size_t>(width));
  for (int64_t r : kept) {
    result.insert(result.end(), rows.begin() + r * width, rows.begin() + (r + 1) * width);
  }
  return result;
}

/// Takes the coded rows of `kept` along; blocks that hold several rows must stay whole.
static Status keepCoded(const ColumnSchema &column, CodedColumn &coded,
                        const std::vector<int64_t> &kept) {
  if (coded.rows == 0) {
    return Status::ok();
  }
  std::vector<int64_t> inside;
  int64_t before = 0;
  for (int64_t row : kept) {
    before += row < coded.first ? 1 : 0;
    if (row >= coded.first && row < coded.first + coded.rows) {
      inside.push_back(row - coded.first);
    }
  }
  coded.first = before;
  if (static_cast<int64_t>(inside.size()) == coded.rows) {
    return Status::ok();
  }
  const ColumnLayout &layout = column.layout;
  if (layout.granule() > 1) {
    return Status::badInput("rows of column '" + column.name + "' are coded in blocks of " +
                            std::to_string(layout.granule()) +
                            ", of which single rows cannot be removed");
  }
  if (layout.affine()) {
    coded.codes = picked(coded.codes, inside, layout.width);
    coded.scales = picked(coded.scales, inside, layout.groupsPerRow());
    if (!coded.zeros.empty()) {
      coded.zeros = picked(coded.zeros, inside, layout.groupsPerRow());
    }
  }
  coded.rows = static_cast<int64_t>(inside.size());
  return Status::ok();
}

std::vector<int32_t> CacheTable::arrivals() const {
  std::vector<int32_t> counts;
  for (const RowList &list : lists) {
    counts.push_back(list.arrived);
  }
  return counts;
}

void CacheTable::forgetSince(const std::vector<int32_t> &arrivals) {
  for (auto [list, count] : llvm::zip_equal(lists, arrivals)) {
    while (!list.source.empty() && list.source.back() >= count) {
      list.source.pop_back();
    }
    for (auto [c, column] : llvm::enumerate(schema->columns)) {
      list.columns[c].resize(static_cast<size_t>(list.rows() * column.layout.width));
    }
    list.merged.resize(static_cast<size_t>(list.rows()));
    list.arrived = count;
  }
}

Status CacheTable::gather(const Tensor &index) {
  if (index.axes.size() != 1 && index.axes.size() != schema->lead.size() + 1) {
    return Status::badInput("expected rows to keep for all heads, or for every point of the row "
                            "axes of the cache");
  }
  for (size_t l = 0; l < lists.size(); ++l) {
    RowList &list = lists[l];
    int64_t head = index.axes.size() > 1 ? static_cast<int64_t>(l) : 0;
    int64_t capacity = index.axes.back().extent;
    int64_t count = index.ragged.empty() || index.lengths.empty()
                        ? capacity
                        : index.lengths[index.lengths.size() == 1 ? 0 : static_cast<size_t>(head)];
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < count; ++i) {
      kept.push_back(static_cast<int64_t>(index.values[static_cast<size_t>(head * capacity + i)]));
      if (kept.back() < 0 || kept.back() >= list.rows()) {
        return Status::badInput("expected rows in [0, " + std::to_string(list.rows()) + "), got " +
                                std::to_string(kept.back()));
      }
    }
    for (size_t c = 0; c < schema->columns.size(); ++c) {
      KVCACHE_RETURN_IF_ERROR(keepCoded(schema->columns[c], list.coded[c], kept));
      list.columns[c] = picked(list.columns[c], kept, schema->columns[c].layout.width);
    }
    list.source = picked(list.source, kept, 1);
    list.merged = picked(list.merged, kept, 1);
    if (!keyPositions.empty()) {
      keyPositions[l] = picked(keyPositions[l], kept, 1);
    }
  }
  return Status::ok();
}

int64_t CacheTable::dueRows(size_t c, size_t l) const {
  const CodedColumn &coded = lists[l].coded[c];
  return std::max<int64_t>(
      0, schema->columns[c].layout.codedRowsAfterCommit(lists[l].rows()) - coded.rows);
}

Status CacheTable::applyEncoder(size_t c, const RowEncoder &encoder) {
  const ColumnSchema &column = schema->columns[c];
  const ColumnLayout &layout = column.layout;
  std::vector<int64_t> blocks;
  for (size_t l = 0; l < lists.size(); ++l) {
    blocks.push_back(dueRows(c, l) / layout.block);
  }
  int64_t most = *std::max_element(blocks.begin(), blocks.end());
  if (most == 0) {
    return Status::ok();
  }
  std::vector<Axis> axes = schema->lead;
  axes.push_back({"page", most});
  axes.push_back({"token", layout.block});
  axes.insert(axes.end(), column.features.begin(), column.features.end());
  Tensor rows(axes);
  rows.ragged = "page";
  rows.lengths = blocks;
  int64_t stride = most * layout.block * layout.width;
  auto firstOf = [&](size_t l) {
    const CodedColumn &coded = lists[l].coded[c];
    int64_t first = (coded.rows == 0 ? layout.sinks : coded.first) + coded.rows;
    return lists[l].columns[c].begin() + first * layout.width;
  };
  for (size_t l = 0; l < lists.size(); ++l) {
    int64_t values = blocks[l] * layout.block * layout.width;
    std::copy(firstOf(l), firstOf(l) + values,
              rows.values.begin() + static_cast<int64_t>(l) * stride);
  }
  StatusOr<Tensor> encoded = encoder(rows);
  KVCACHE_RETURN_IF_ERROR(encoded.status());
  for (size_t l = 0; l < lists.size(); ++l) {
    auto to = firstOf(l);
    auto from = encoded->values.begin() + static_cast<int64_t>(l) * stride;
    for (int64_t i = 0; i < blocks[l] * layout.block * layout.width; ++i) {
      to[i] = rt::reference::roundTo(layout.exactElem, from[i]);
    }
  }
  return Status::ok();
}

Status CacheTable::commit(const FactorLookup &factor,
                          const std::map<std::string, RowEncoder> &encoders) {
  for (size_t c = 0; c < schema->columns.size(); ++c) {
    const ColumnSchema &column = schema->columns[c];
    int64_t width = column.layout.width;
    if (auto encoder = encoders.find(column.name); encoder != encoders.end()) {
      KVCACHE_RETURN_IF_ERROR(applyEncoder(c, encoder->second));
    }
    for (size_t l = 0; l < lists.size(); ++l) {
      RowList &list = lists[l];
      CodedColumn &coded = list.coded[c];
      int64_t due = dueRows(c, l);
      if (due == 0) {
        continue;
      }
      if (coded.rows == 0) {
        coded.first = column.layout.sinks;
      }
      auto begin = list.columns[c].begin() + (coded.first + coded.rows) * width;
      FactorSide side;
      if (column.layout.rank > 0) {
        StatusOr<FactorSide> found = factor(column, static_cast<int64_t>(l));
        KVCACHE_RETURN_IF_ERROR(found.status());
        side = *found;
      }
      StatusOr<CodedBlock> block =
          encodeRows(column.layout, std::vector<double>(begin, begin + due * width), due,
                     column.layout.rank > 0 ? &side : nullptr);
      KVCACHE_RETURN_IF_ERROR(block.status());
      std::copy(block->decoded.begin(), block->decoded.end(), begin);
      coded.codes.insert(coded.codes.end(), block->codes.begin(), block->codes.end());
      coded.scales.insert(coded.scales.end(), block->scales.begin(), block->scales.end());
      coded.zeros.insert(coded.zeros.end(), block->zeros.begin(), block->zeros.end());
      coded.rows += due;
    }
  }
  return Status::ok();
}

} // namespace mlir::kvcache::reference
