// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Address arithmetic and typed accesses of StoreAccess.h.

#include "targets/cpu/StoreAccess.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <optional>

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

static Value constantLanes(KernelBuilder &k, ArrayRef<int32_t> values) {
  auto type = k.vec(k.i32Type(), static_cast<int64_t>(values.size()));
  return arith::ConstantOp::create(k.builder(), k.loc(), DenseElementsAttr::get(type, values));
}

static Value constantMask(KernelBuilder &k, ArrayRef<bool> values) {
  auto type = k.vec(k.builder().getI1Type(), static_cast<int64_t>(values.size()));
  return arith::ConstantOp::create(k.builder(), k.loc(), DenseElementsAttr::get(type, values));
}

std::vector<ChannelChunk> mlir::kvcache::cpu::channelChunks(int64_t width) {
  std::vector<ChannelChunk> chunks;
  for (int64_t start = 0; start < width; start += lanes) {
    chunks.push_back({start, std::min(lanes, width - start)});
  }
  return chunks;
}

StoreAccess::StoreAccess(KernelBuilder &kernel, StringRef storeArg,
                         ArrayRef<abi::ColumnLayout> columns)
    : k_(kernel), columns_(columns), arena_(kernel.arena(storeArg)), view_(kernel.view(storeArg)) {
  for (const abi::ColumnLayout &column : columns) {
    firstSegment_.push_back(segments_);
    segments_ += static_cast<int64_t>(column.segments.size());
  }
}

// ---- the view
// -------------------------------------------------------------------------------------------------------

Value StoreAccess::viewWord(Value index) { return k_.toIndex(k_.load(view_, index)); }
Value StoreAccess::heads() { return viewWord(k_.index(0)); }
Value StoreAccess::rows(Value head) { return viewWord(k_.add(head, 2)); }

bool StoreAccess::hasSegment(int64_t column, abi::SegmentKind kind) const {
  return columns_[column].segment(kind) != nullptr;
}

SegmentAccess StoreAccess::segment(int64_t column, abi::SegmentKind kind, Value head) {
  const abi::ColumnLayout &layout = columns_[column];
  const abi::SegmentLayout *segment = layout.segment(kind);
  assert(segment && "the column has no such segment");
  int64_t number = firstSegment_[column] + (segment - layout.segments.data());
  // Record r(g, h) = 2 + H + 3 * (g * H + h).
  Value headCount = heads();
  Value record = k_.add(k_.add(headCount, 2), k_.mul(k_.add(k_.mul(headCount, number), head), 3));
  return {
      &layout, segment, viewWord(record), viewWord(k_.add(record, 1)), viewWord(k_.add(record, 2)),
      Value(), Value()};
}

/// Groups of the parts of a row: those of part p are those of part 0, moved by p / every * groups.
struct PartGroups {
  int64_t every, groups;
};

static std::optional<PartGroups> partGroups(const abi::ColumnLayout &column, int64_t width) {
  PartGroups step{column.width / width, 0};
  for (int64_t part = 1; part < column.width / width && step.groups == 0; ++part) {
    step = {part, column.groupOf(part * width) - column.groupOf(0)};
  }
  for (int64_t value = 0; value < column.width; ++value) {
    int64_t part = value / width;
    if (column.groupOf(value) != column.groupOf(value % width) + part / step.every * step.groups) {
      return std::nullopt;
    }
  }
  return step;
}

std::string StoreAccess::whyNotInParts(const abi::ColumnLayout &column, int64_t width) {
  std::string got = std::to_string(column.width) + " values in parts of " + std::to_string(width);
  if (width < 1 || column.width % width != 0) {
    return "expected rows of whole parts, got " + got;
  }
  if (!column.affine() || column.tileAxis == abi::TileAxis::Token) {
    return "";
  }
  if (width * column.bits % 8 != 0) {
    return "expected parts of whole bytes of codes, got " + got + " with " +
           std::to_string(column.bits) + " bits each";
  }
  if (!partGroups(column, width)) {
    return "expected the groups of every part to be like those of the first, got " + got +
           " with groups of " + std::to_string(column.tile);
  }
  return "";
}

SegmentAccess StoreAccess::part(SegmentAccess segment, Value number, int64_t width) {
  const abi::ColumnLayout &column = *segment.column;
  segment.firstValue = k_.mul(number, width);
  if (column.affine() && column.tileAxis == abi::TileAxis::Channel) {
    PartGroups step = *partGroups(column, width);
    segment.firstGroup = k_.mul(k_.floorDiv(number, step.every), step.groups);
  }
  return segment;
}

Value StoreAccess::atPart(const SegmentAccess &segment, Value address, int64_t bits) {
  return segment.firstValue ? k_.add(address, k_.floorDiv(k_.mul(segment.firstValue, bits), 8))
                            : address;
}

Value StoreAccess::page(const SegmentAccess &segment, Value row) {
  return viewWord(k_.add(segment.pages, k_.floorDiv(row, segment.layout->rowsPerPage)));
}

void StoreAccess::forPages(const SegmentAccess &segment, Value first, Value end,
                           llvm::function_ref<void(Value lo, Value hi, Value page)> body) {
  int64_t perPage = segment.layout->rowsPerPage;
  Value firstPage = k_.floorDiv(first, perPage);
  Value endPage = k_.select(k_.lt(first, end), k_.ceilDiv(end, perPage), firstPage);
  k_.forLoop(firstPage, endPage, k_.index(1), [&](Value number) {
    Value lo = k_.max(first, k_.mul(number, perPage));
    Value hi = k_.min(end, k_.mul(k_.add(number, 1), perPage));
    body(lo, hi, viewWord(k_.add(segment.pages, number)));
  });
}

void StoreAccess::forRowBlocks(Value first, Value end, Value block, Value blocks, int64_t blockRows,
                               llvm::function_ref<void(Value lo, Value hi)> body) {
  Value start = k_.add(first, k_.mul(block, blockRows));
  k_.forLoop(start, end, k_.mul(blocks, blockRows),
             [&](Value lo) { body(lo, k_.min(end, k_.add(lo, blockRows))); });
}

// ---- addresses
// ------------------------------------------------------------------------------------------------------

Value StoreAccess::unit(const SegmentAccess &segment, abi::PlaneRole role, Value row, Value page) {
  const abi::PlaneLayout *plane = segment.layout->plane(role);
  assert(plane && "the segment has no such plane");
  Value number = k_.floorDiv(k_.rem(row, segment.layout->rowsPerPage), plane->rowsPerUnit);
  return k_.add(k_.add(page, plane->offset), k_.mul(number, plane->bytesPerUnit));
}

Value StoreAccess::unit(const SegmentAccess &segment, abi::PlaneRole role, Value row) {
  return unit(segment, role, row, page(segment, row));
}

Value StoreAccess::element(const SegmentAccess &segment, Value row, Value channel) {
  int64_t bytes = abi::bytesOf(segment.layout->plane(abi::PlaneRole::Rows)->elem);
  Value rowAt = atPart(segment, unit(segment, abi::PlaneRole::Rows, row), 8 * bytes);
  return k_.add(rowAt, k_.mul(channel, bytes));
}

// ---- dense values
// ---------------------------------------------------------------------------------------------------

Value StoreAccess::loadF32(Value address, abi::ElementType elem, int64_t n) {
  return k_.widen(k_.loadBytesAs(arena_, address, k_.vec(k_.elemType(elem), n)));
}

Value StoreAccess::loadI32(Value address, abi::ElementType elem, int64_t n) {
  Value raw = k_.loadBytesAs(arena_, address, k_.vec(k_.elemType(elem), n));
  return elem == abi::ElementType::U8 ? k_.extendU8(raw) : k_.toI32(raw);
}

Value StoreAccess::loadScalar(Value address, abi::ElementType elem) {
  return k_.extractLane(
      isFloatElement(elem) ? loadF32(address, elem, 1) : loadI32(address, elem, 1), 0);
}

void StoreAccess::storeF32(Value vector, Value address, abi::ElementType elem) {
  assert(isFloatElement(elem) && "expected a float element");
  k_.storeBytesOf(k_.narrow(vector, k_.elemType(elem)), arena_, address);
}

void StoreAccess::storeI32(Value vector, Value address, abi::ElementType elem) {
  int64_t bytes = abi::bytesOf(elem);
  assert(!isFloatElement(elem) && bytes <= 4 && "expected an integer element of at most 32 bits");
  if (bytes < 4) {
    int64_t n = cast<VectorType>(vector.getType()).getNumElements();
    vector = arith::TruncIOp::create(k_.builder(), k_.loc(), k_.vec(k_.elemType(elem), n), vector);
  }
  k_.storeBytesOf(vector, arena_, address);
}

void StoreAccess::storeScalar(Value scalar, Value address, abi::ElementType elem) {
  Value vector = k_.broadcast(scalar, 1);
  if (isFloatElement(elem)) {
    storeF32(vector, address, elem);
  } else {
    storeI32(vector, address, elem);
  }
}

Value StoreAccess::loadRows16(const SegmentAccess &segment, Value row, Value page) {
  abi::ElementType elem = segment.layout->plane(abi::PlaneRole::Rows)->elem;
  assert(segment.column->width == 1 && abi::bytesOf(elem) == 4 &&
         "expected a column of one f32 or i32");
  return k_.loadBytesAs(arena_, unit(segment, abi::PlaneRole::Rows, row, page),
                        k_.vec(k_.elemType(elem)));
}

// ---- exact rows
// -----------------------------------------------------------------------------------------------------

StoreAccess::ExactRows StoreAccess::exactRows(int64_t column, Value head) {
  ExactRows rows;
  rows.exact = segment(column, abi::SegmentKind::Exact, head);
  if (hasSegment(column, abi::SegmentKind::Sinks)) {
    rows.sinks = segment(column, abi::SegmentKind::Sinks, head);
    assert(rows.sinks.layout->rowsPerPage == rows.exact.layout->rowsPerPage &&
           "sinks and exact rows are laid out alike");
  }
  return rows;
}

Value StoreAccess::exactRow(const ExactRows &rows, Value row) {
  SegmentAccess segment = rows.exact;
  if (rows.sinks.layout) {
    segment.pages = k_.select(k_.lt(row, rows.sinks.end), rows.sinks.pages, rows.exact.pages);
  }
  return unit(segment, abi::PlaneRole::Rows, row);
}

// ---- affine codes
// ---------------------------------------------------------------------------------------------------

Value StoreAccess::loadCodes(const SegmentAccess &segment, Value row, Value page,
                             ChannelChunk chunk) {
  const abi::ColumnLayout &column = *segment.column;
  Value base = unit(segment, abi::PlaneRole::Codes, row, page);
  Value mask = k_.splatI32((int64_t(1) << column.bits) - 1, chunk.size);
  if (column.tileAxis == abi::TileAxis::Token) {
    int64_t perWord = 32 / column.bits;
    Value inBlock = k_.rem(row, column.tile);
    Value word = k_.floorDiv(inBlock, perWord);
    base = atPart(segment, base, 32);
    Value words = loadI32(k_.add(k_.add(base, chunk.start * 4), k_.mul(word, column.width * 4)),
                          abi::ElementType::I32, chunk.size);
    Value shift = k_.mul(k_.rem(inBlock, perWord), column.bits);
    return k_.andi(k_.shru(words, k_.broadcast(k_.toI32(shift), chunk.size)), mask);
  }
  Value at = k_.add(atPart(segment, base, column.bits), chunk.start * column.bits / 8);
  if (column.bits == 8) {
    return loadI32(at, abi::ElementType::U8, chunk.size);
  }
  // Eight codes take `bits` bytes: one 32-bit load for each eight lanes (all sixteen when bits =
  // 2).
  SmallVector<int64_t> which;
  SmallVector<int32_t> shifts;
  int64_t perLoad = column.bits == 2 ? 16 : 8;
  for (int64_t lane = 0; lane < chunk.size; ++lane) {
    which.push_back(lane / perLoad);
    shifts.push_back(static_cast<int32_t>(lane % perLoad * column.bits));
  }
  Value low = loadI32(at, abi::ElementType::I32, 1);
  Value high =
      chunk.size > perLoad ? loadI32(k_.add(at, column.bits), abi::ElementType::I32, 1) : low;
  return k_.andi(k_.shru(k_.shuffle(low, high, which), constantLanes(k_, shifts)), mask);
}

Value StoreAccess::groupValues(const SegmentAccess &segment, abi::PlaneRole role, Value row,
                               Value page, ChannelChunk chunk) {
  const abi::ColumnLayout &column = *segment.column;
  abi::ElementType elem = segment.layout->plane(role)->elem;
  Value base = unit(segment, role, row, page);
  int64_t bytes = abi::bytesOf(elem);
  if (column.tileAxis == abi::TileAxis::Token) {
    Value at = k_.add(atPart(segment, base, 8 * bytes), chunk.start * bytes);
    return isFloatElement(elem) ? loadF32(at, elem, chunk.size)
                                : k_.intToF32(loadI32(at, elem, chunk.size));
  }
  if (segment.firstGroup) {
    base = k_.add(base, k_.mul(segment.firstGroup, bytes));
  }
  SmallVector<Value> values;
  if (!column.tiles.empty()) {
    return blockGroupValues(base, elem, column, chunk);
  }
  auto [first, end] = groupsOf(chunk, column.tile);
  for (int64_t group = first; group < end; ++group) {
    Value value = loadScalar(k_.add(base, group * bytes), elem);
    values.push_back(isFloatElement(elem) ? value : k_.intToF32(value));
  }
  return spreadGroups(values, chunk, column.tile);
}

Value StoreAccess::blockGroupValues(Value base, abi::ElementType elem,
                                    const abi::ColumnLayout &column, ChannelChunk chunk) {
  Value spread;
  SmallVector<int64_t> seen;
  for (int64_t lane = 0; lane < chunk.size; ++lane) {
    int64_t group = column.groupOf(chunk.start + lane);
    if (llvm::is_contained(seen, group)) {
      continue;
    }
    seen.push_back(group);
    SmallVector<bool> ofGroup;
    for (int64_t other = 0; other < chunk.size; ++other) {
      ofGroup.push_back(column.groupOf(chunk.start + other) == group);
    }
    Value value = loadScalar(k_.add(base, group * abi::bytesOf(elem)), elem);
    value = k_.broadcast(isFloatElement(elem) ? value : k_.intToF32(value), chunk.size);
    spread = spread ? k_.select(constantMask(k_, ofGroup), value, spread) : value;
  }
  return spread;
}

Value StoreAccess::loadScales(const SegmentAccess &segment, Value row, Value page,
                              ChannelChunk chunk) {
  return groupValues(segment, abi::PlaneRole::Scales, row, page, chunk);
}

Value StoreAccess::loadZeros(const SegmentAccess &segment, Value row, Value page,
                             ChannelChunk chunk) {
  if (segment.column->zero == abi::ZeroKind::None) {
    return {};
  }
  return groupValues(segment, abi::PlaneRole::Zeros, row, page, chunk);
}

Value StoreAccess::decode(const SegmentAccess &segment, Value row, Value page, ChannelChunk chunk) {
  const abi::ColumnLayout &column = *segment.column;
  Value codes = k_.intToF32(loadCodes(segment, row, page, chunk));
  Value scales = loadScales(segment, row, page, chunk);
  Value zeros = loadZeros(segment, row, page, chunk);
  if (!zeros) {
    zeros = k_.splatF32(static_cast<double>(symmetricZero(column.bits)), chunk.size);
  }
  if (column.zero == abi::ZeroKind::Min) {
    return k_.add(k_.mul(codes, scales), zeros);
  }
  return k_.mul(k_.sub(codes, zeros), scales);
}

Value StoreAccess::spreadGroups(ArrayRef<Value> values, ChannelChunk chunk, int64_t tile) {
  Value spread = k_.broadcast(values[0], chunk.size);
  for (size_t i = 1; i < values.size(); ++i) {
    SmallVector<bool> fromHere;
    for (int64_t lane = 0; lane < chunk.size; ++lane) {
      fromHere.push_back((chunk.start + lane) / tile - chunk.start / tile >=
                         static_cast<int64_t>(i));
    }
    spread = k_.select(constantMask(k_, fromHere), k_.broadcast(values[i], chunk.size), spread);
  }
  return spread;
}
