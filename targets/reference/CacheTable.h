// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A cache as the reference holds it: for every point of the row axes but the last one (in most
// methods: for every KV head) a list of rows, each with its columns as doubles. A row reads as what
// is stored: exact rows are rounded to their element type, coded rows are decoded codes.
//
// Invariant: all columns of a list have the same number of rows; coded rows of a column are
// contiguous, and rows are coded by `commit` alone.

#pragma once

#include "targets/reference/Value.h"

#include "dialect/KVCacheTypes.h"
#include "runtime/abi/StorageLayout.h"
#include "runtime/reference/Families.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mlir::kvcache::reference {

struct ColumnSchema {
  std::string name;
  std::vector<Axis> features; ///< feature axes; their product is layout.width
  ::kvcache::abi::ColumnLayout layout;
};

struct CacheSchema {
  std::vector<Axis> lead; ///< row axes without the last: [], [head] or [head, group]
  std::string rowAxis;    ///< name of the last row axis, "token"
  std::vector<ColumnSchema> columns;

  /// Number of the column called `name`, -1 when there is none.
  int find(StringRef name) const;
  int64_t lists() const;
  /// The coordinates of a list, one for each lead axis.
  std::vector<int64_t> leadPoint(int64_t list) const;
  /// The list that query head `group` of KV head `head` reads.
  int64_t listOf(int64_t head, int64_t group) const {
    return lead.empty() ? 0 : lead.size() == 1 ? head : head * lead[1].extent + group;
  }
};

/// The schema of a cache type without symbols, apart from `act`.
StatusOr<std::shared_ptr<const CacheSchema>> makeSchema(CacheType type,
                                                        ::kvcache::abi::ElementType act);

/// What commit made of rows [first, first + rows) of one column of one list.
struct CodedColumn {
  int64_t first = 0, rows = 0;
  std::vector<uint8_t> codes; ///< [rows, width]; empty for factor columns
  std::vector<float> scales,
      zeros; ///< tiles over tokens: [rows / tile, width]; over channels: [rows, groups]
};

struct RowList {
  std::vector<std::vector<double>> columns; ///< [column][rows, width], what a reader sees
  std::vector<CodedColumn> coded;           ///< [column]
  std::vector<int32_t> source;              ///< number of each row in order of arrival
  std::vector<double> merged;               ///< entries folded into each row
  int32_t arrived = 0;                      ///< rows ever appended

  int64_t rows() const { return static_cast<int64_t>(source.size()); }
};

/// Basis and mean of the factor columns of one layer: column name -> tensors over [head?, channel,
/// rank].
using FactorLookup =
    std::function<StatusOr<rt::reference::FactorSide>(const ColumnSchema &, int64_t list)>;

/// What is coded of the rows [lead.., page, token, features..] of a column that are due; pages are
/// their blocks, of a length for each list.
using RowEncoder = std::function<StatusOr<Tensor>(const Tensor &rows)>;

struct CacheTable {
  std::shared_ptr<const CacheSchema> schema;
  std::vector<RowList> lists;
  /// Positions that the keys of a rope view are rotated to, per list; empty where they are the pos
  /// column.
  std::vector<std::vector<int32_t>> keyPositions;

  explicit CacheTable(std::shared_ptr<const CacheSchema> schemaIn);

  int64_t maxRows() const;
  std::vector<int64_t> rowCounts() const;

  /// Adds the rows that `values` have along their row axis (of kind query or token); axes they lack
  /// are broadcast, columns not named get 0.
  Status append(const std::vector<std::pair<std::string, const Tensor *>> &values);
  /// Column `name` as [lead.., token, features..], ragged along the token axis.
  StatusOr<Tensor> column(StringRef name) const;
  /// Replaces a column; values are rounded to what the column stores. Fails on rows that are coded
  /// already.
  Status setColumn(StringRef name, const TensorValue &value);
  /// Keeps the rows that `index` names, in its order (ascending); an index without the lead axes
  /// applies to all lists.
  Status gather(const Tensor &index);
  /// Rows that ever arrived, for each list.
  std::vector<int32_t> arrivals() const;
  /// Takes out the rows at the end of each list that arrived after `arrivals` rows, as if they had never been there.
  void forgetSince(const std::vector<int32_t> &arrivals);
  /// Codes the rows that are due in every column (StorageLayout.h, codedRowsAfterCommit), those of
  /// a column in `encoders` as that makes them.
  Status commit(const FactorLookup &factor, const std::map<std::string, RowEncoder> &encoders = {});

private:
  /// Rows of list `l` of column `c` that the next commit codes.
  int64_t dueRows(size_t c, size_t l) const;
  Status applyEncoder(size_t c, const RowEncoder &encoder);
};

} // namespace mlir::kvcache::reference
