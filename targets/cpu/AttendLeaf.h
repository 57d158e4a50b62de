// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The two sides of attention over a store: a logit leaf knows one format of keys, a value leaf one
// format of values. They meet in a scratch of G x 64 f32 (logits, then probabilities), so formats
// add and do not multiply. A leaf handles one segment of its column for one KV head.
//
// Invariant: logit leaves are called in ascending row order and may overwrite lanes behind their
// last row, never those before their first; a value leaf uses no row outside [lo, hi).

#pragma once

#include "targets/cpu/Attend.h"
#include "targets/cpu/StoreAccess.h"

#include <functional>
#include <memory>

namespace mlir::kvcache::cpu {

/// Tokens of one online-softmax block.
constexpr int64_t attendTile = 64;
/// f32 words from one head to the next in the scratch: a leaf may write up to 32 lanes behind a
/// tile.
constexpr int64_t attendTileStride = attendTile + 32;

/// What the leaves of one task share: its KV head, its store and its scratch.
struct AttendContext {
  KernelBuilder &k;
  const AttendSpec &spec;
  StoreAccess &store;
  Value head;    ///< KV head of the model
  Value queries; ///< f32 [G][Dkp]: q / sqrt(D), zero-padded
  Value tile;    ///< f32 [G][attendTileStride]: logits, then probabilities, of the tile's rows
  Value sums;    ///< f32 [G][sumsStride]: what the value leaves accumulate
  int64_t sumsStride = 0;
  /// With chosen entries: the row at a place of the list. Leaves are then given places of the list
  /// for rows, and read what lies in their segment.
  std::function<Value(Value place)> rowAt;
};

/// The head of the store that holds the rows of a KV head.
Value storeHeadOf(KernelBuilder &k, const AttendSpec &spec, Value kvHead);
/// The rows of K or V of a KV head; of rows that heads share, the head's part. Coefficients of a factor
/// are whole rows.
SegmentAccess attendSegment(StoreAccess &store, const AttendSpec &spec, int64_t column,
                            ::kvcache::abi::SegmentKind kind, Value kvHead);

/// Uninitialised stack scratch of n f32, as memref<?xf32>. To be called outside loops.
Value attendScratch(KernelBuilder &k, int64_t n);
/// Sets n f32 (a multiple of 16) from `offset` on to zero.
void clearScratch(KernelBuilder &k, Value memref, int64_t n);

/// Address of the page behind the one that holds `row` of the segment, or of that page when it is
/// the last.
Value nextAttendPage(AttendContext &ctx, const SegmentAccess &segment, Value row);
/// Asks for `bytes` bytes from `address` on to be brought into the caches.
void prefetchBytes(AttendContext &ctx, Value address, int64_t bytes);

/// Writes the logits of rows [lo, hi), inside its segment and the tile that starts at row
/// `tileStart`, to ctx.tile.
class AttendLogitLeaf {
public:
  virtual ~AttendLogitLeaf() = default;
  virtual void emit(Value lo, Value hi, Value tileStart) = 0;
};

/// Adds probability times value of rows [lo, hi) to its words of ctx.sums.
class AttendValueLeaf {
public:
  virtual ~AttendValueLeaf() = default;
  virtual void emit(Value lo, Value hi, Value tileStart) = 0;
};

/// Rows [tileStart, tileStart + count) of K or V of a KV head (its exact rows) to `scratch` f32 [count][Dp], Dp that of the
/// column and head; keys of a rope view rotated by the kernel's argument "rope".
void widenAttendRows(StoreAccess &store, const AttendSpec &spec, int64_t column, Value head,
                     Value tileStart, Value count, Value scratch);

/// The leaves of a spec, each with the rows it is for, in ascending row order.
struct AttendLogit {
  SegmentAccess segment;
  std::unique_ptr<AttendLogitLeaf> leaf;
};
struct AttendValue {
  SegmentAccess segment;
  std::unique_ptr<AttendValueLeaf> leaf;
};
struct AttendLeaves {
  /// To be called once per task, when ctx.queries is filled and before a leaf is used.
  std::vector<std::function<void()>> prepare;
  std::vector<AttendLogit> logits;
  std::vector<AttendValue> values; ///< empty unless wantsOut
};
/// Makes the leaves and their scratch, and sets ctx.sumsStride; ctx.head, ctx.queries, ctx.tile
/// must be set.
AttendLeaves makeAttendLeaves(AttendContext &ctx);
/// A register tile: rows * heads <= spec.accumulators, heads <= 8.
struct AttendRegisterTile {
  int64_t rows, heads;
};
AttendRegisterTile attendRegisterTile(const AttendSpec &spec);

/// Sums `sums[head * rows + row]` (16 vectors, the unused ones zero) over their lanes, adds
/// `constants` [head] when given, and stores the logits of `rows` rows from lane `at` of the tile
/// on.
void storeAttendLogits(AttendContext &ctx, ArrayRef<Value> sums, Value at, int64_t rows,
                       int64_t firstHead, int64_t heads, Value constants = {});

class AttendRowLoader;
/// Rows of any storage against `queries` f32 [G][width, padded]. `constants`, when given, is f32
/// [G] added to the logits.
std::unique_ptr<AttendLogitLeaf> makeRowLogitLeaf(AttendContext &ctx,
                                                  std::unique_ptr<AttendRowLoader> loader,
                                                  Value queries, Value constants = {});
/// Rows of any storage, accumulated from word `offset` of each head of ctx.sums on.
std::unique_ptr<AttendValueLeaf>
makeRowValueLeaf(AttendContext &ctx, std::unique_ptr<AttendRowLoader> loader, int64_t offset);

} // namespace mlir::kvcache::cpu
