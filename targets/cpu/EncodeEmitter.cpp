// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The encode kernel: loads due rows, transforms them, quantizes over channels or tokens, packs.

#include "targets/cpu/EncodeEmitter.h"

#include "targets/cpu/EncodeEmitterQuantizer.h"
#include "targets/cpu/RowTransforms.h"
#include "targets/cpu/StoreAccess.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

/// Rows of a task's block; a tile over tokens makes it at least one tile.
static constexpr int64_t encodeBlockRows = 32;
/// Largest stack scratch: rotated rows of one tile over tokens.
static constexpr int64_t maxScratchValues = 1 << 16;

std::string mlir::kvcache::cpu::whyNotEncode(const abi::ColumnLayout &column) {
  if (!column.coded) {
    return "expected a coded column, got dense rows";
  }
  if (column.width > maxUnrolledWidth) {
    return "expected at most " + std::to_string(maxUnrolledWidth) + " values per coded row, got " +
           std::to_string(column.width);
  }
  if (!isFloatElement(column.exactElem)) {
    return "expected exact rows of floats, got " + std::string(abi::nameOf(column.exactElem));
  }
  if (!column.affine()) {
    return isFloatElement(column.factorElem)
               ? ""
               : "expected float coefficients, got " + std::string(abi::nameOf(column.factorElem));
  }
  if (!isFloatElement(column.scaleType)) {
    return "expected a float scale, got scale_" + std::string(abi::nameOf(column.scaleType));
  }
  if (column.zero == abi::ZeroKind::Min && !isFloatElement(column.zeroType)) {
    return "expected a float minimum, got min_" + std::string(abi::nameOf(column.zeroType));
  }
  if (column.zero == abi::ZeroKind::Min && column.clip != 1.0) {
    return "expected clip(c) only with zp_T or none, got min_" +
           std::string(abi::nameOf(column.zeroType));
  }
  if (column.zero == abi::ZeroKind::Point && column.zeroType == abi::ElementType::I64) {
    return "expected a zero point of at most 32 bits, got zp_i64";
  }
  bool rowsInScratch = column.rotated || !column.tiles.empty();
  if (rowsInScratch && column.granule() * column.width > maxScratchValues) {
    return "expected at most " + std::to_string(maxScratchValues) +
           " values in a rotated tile over tokens or in a tile over several axes, got " +
           std::to_string(column.granule() * column.width);
  }
  return {};
}

namespace {

/// The encode of one column and head in the kernel under construction.
class Encoder {
public:
  Encoder(StoreAccess &store, int64_t column, Value head)
      : k(store.kernel()), store(store), layout(store.column(column)), quantizer(k, layout),
        chunks(channelChunks(layout.width)) {
    exact = store.segment(column, abi::SegmentKind::Exact, head);
    coded = store.segment(column, abi::SegmentKind::Coded, head);
    if (layout.rank > 0) {
      factor = {k.arg("basis"), k.arg("mean"), head, layout.width, layout.rank};
      scratch = stackF32(k, layout.width);
    } else if (overSeveral() || (layout.rotated && overTokens())) {
      scratch = stackF32(k, layout.granule() * layout.width);
    }
    if (overSeveral()) {
      groupMax = stackF32(k, layout.groupsPerRow());
      groupMin = stackF32(k, layout.groupsPerRow());
      channelMax = stackF32(k, layout.width);
      channelMin = stackF32(k, layout.width);
    }
  }

  bool overTokens() const { return layout.affine() && layout.tileAxis == abi::TileAxis::Token; }
  bool overSeveral() const { return !layout.tiles.empty(); }
  /// A multiple of the tile, so that a tile belongs to one task.
  int64_t blockRows() const {
    int64_t rows = layout.granule();
    return (encodeBlockRows + rows - 1) / rows * rows;
  }

  void encodeRows(Value lo, Value hi) {
    if (overSeveral()) {
      k.forLoop(lo, hi, k.index(layout.tileRows), [&](Value first) { encodeBlock(first); });
      return;
    }
    if (overTokens()) {
      k.forLoop(lo, hi, k.index(layout.tile), [&](Value first) { encodeTile(first); });
      return;
    }
    k.forLoop(lo, hi, k.index(1), [&](Value row) {
      SmallVector<Value> values = loadRow(store.unit(exact, abi::PlaneRole::Rows, row));
      layout.rank > 0 ? storeCoefficients(row, values) : encodeRow(row, values);
    });
  }

private:
  Value loadChunk(Value rowAddress, ChannelChunk chunk) {
    return store.loadF32(k.add(rowAddress, chunk.start * abi::bytesOf(layout.exactElem)),
                         layout.exactElem, chunk.size);
  }
  SmallVector<Value> loadRow(Value rowAddress) {
    SmallVector<Value> values;
    for (ChannelChunk chunk : chunks) {
      values.push_back(loadChunk(rowAddress, chunk));
    }
    return layout.rotated ? hadamard(k, values, layout.width) : values;
  }

  void storeCoefficients(Value row, ArrayRef<Value> values) {
    Value base = store.unit(coded, abi::PlaneRole::Rows, row);
    for (auto [chunk, value] :
         llvm::zip(channelChunks(layout.rank), project(k, factor, values, scratch))) {
      store.storeF32(value, k.add(base, chunk.start * abi::bytesOf(layout.factorElem)),
                     layout.factorElem);
    }
  }

  // ---- tile over channels
  // ---------------------------------------------------------------------------------------

  void encodeRow(Value row, ArrayRef<Value> values) {
    Value page = store.page(coded, row);
    Value scaleAt = store.unit(coded, abi::PlaneRole::Scales, row, page);
    bool zeros = layout.zero != abi::ZeroKind::None;
    Value zeroAt = zeros ? store.unit(coded, abi::PlaneRole::Zeros, row, page) : Value();
    SmallVector<Value> divisors, points;
    for (int64_t group = 0; group < layout.groupsPerRow(); ++group) {
      auto [largest, smallest] =
          extremes(values, group * layout.tile, std::min(layout.width, (group + 1) * layout.tile));
      GroupParameters parameters = quantizer.parameters(largest, smallest);
      store.storeScalar(parameters.scale, k.add(scaleAt, group * abi::bytesOf(layout.scaleType)),
                        layout.scaleType);
      divisors.push_back(parameters.divisor);
      if (zeros) {
        points.push_back(parameters.zero);
        store.storeScalar(quantizer.storedZero(parameters.zero),
                          k.add(zeroAt, group * abi::bytesOf(layout.zeroType)), layout.zeroType);
      }
    }
    Value codesAt = store.unit(coded, abi::PlaneRole::Codes, row, page);
    for (auto [chunk, value] : llvm::zip(chunks, values)) {
      auto [first, end] = StoreAccess::groupsOf(chunk, layout.tile);
      auto spread = [&](ArrayRef<Value> perGroup) {
        return store.spreadGroups(
            perGroup.slice(static_cast<size_t>(first), static_cast<size_t>(end - first)), chunk,
            layout.tile);
      };
      Value codes = quantizer.codes(value, zeros ? spread(points) : Value(), spread(divisors));
      pack(codes, k.add(codesAt, chunk.start * layout.bits / 8));
    }
  }

  /// Largest and smallest of channels [lo, hi) of a row.
  std::pair<Value, Value> extremes(ArrayRef<Value> row, int64_t lo, int64_t hi) {
    Value largest, smallest;
    for (ChannelChunk chunk : chunks) {
      int64_t from = std::max(lo, chunk.start), to = std::min(hi, chunk.start + chunk.size);
      if (from >= to) {
        continue;
      }
      Value part = row[static_cast<size_t>(chunk.start / lanes)];
      if (to - from < lanes) { // fill up with a value of the group: extremes do not change
        SmallVector<int64_t> which;
        for (int64_t lane = 0; lane < lanes; ++lane) {
          which.push_back(from - chunk.start + (lane < to - from ? lane : 0));
        }
        part = k.shuffle(part, part, which);
      }
      largest = largest ? k.max(largest, part) : part;
      smallest = smallest ? k.min(smallest, part) : part;
    }
    return {k.reduceMax(largest), k.reduceMin(smallest)};
  }

  /// Writes the codes of up to 16 channels to their bytes, unused high bits 0.
  void pack(Value codes, Value address) {
    int64_t n = cast<VectorType>(codes.getType()).getNumElements(), bits = layout.bits;
    if (bits == 8) {
      store.storeI32(codes, address, abi::ElementType::U8);
      return;
    }
    SmallVector<int64_t> which;
    SmallVector<int32_t> shifts;
    int64_t perWord = bits == 2 ? 16 : 8;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      which.push_back(std::min(lane, n)); // lane n: a zero
      shifts.push_back(static_cast<int32_t>(lane % perWord * bits));
    }
    Value shift = arith::ConstantOp::create(
        k.builder(), k.loc(),
        DenseElementsAttr::get(k.vec(k.i32Type()), ArrayRef<int32_t>(shifts)));
    Value all = k.shl(n < lanes ? k.shuffle(codes, k.splatI32(0, 1), which) : codes, shift);
    auto orOf = [&](Value vector) {
      return k.reduceTree(vector, [&](Value a, Value b) { return k.ori(a, b); });
    };
    Value low, high = k.i32(0);
    if (bits == 2) {
      low = orOf(all);
    } else {
      low = orOf(k.extractLanes(all, 0, 8));
      high = orOf(k.extractLanes(all, 8, 8));
    }
    if (bits == 3) { // 24 bits each: 48 in a row
      low = k.ori(low, k.shl(high, k.i32(24)));
      high = k.shru(high, k.i32(8));
    }
    Value words = k.shuffle(k.broadcast(low, 1), k.broadcast(high, 1), {0, 1});
    Value bytes = k.bitcast(words, k.vec(k.builder().getI8Type(), 8));
    k.storeBytesOf(k.extractLanes(bytes, 0, (n * bits + 7) / 8), store.arena(), address);
  }

  // ---- tile over tokens
  // -----------------------------------------------------------------------------------------

  /// Brings the rows [first, first + granule), rotated where they are, to the scratch.
  void rowsToScratch(Value first) {
    k.forLoop(k.index(layout.granule()), [&](Value t) {
      SmallVector<Value> values = loadRow(store.unit(exact, abi::PlaneRole::Rows, k.add(first, t)));
      for (auto [chunk, value] : llvm::zip(chunks, values)) {
        k.storeF32(value, scratch, k.add(k.mul(t, layout.width), chunk.start));
      }
    });
  }
  Value scratchChunk(Value t, ChannelChunk chunk) {
    return k.loadF32(scratch, k.add(k.mul(t, layout.width), chunk.start), {}, chunk.size);
  }

  /// Codes the rows [first, first + tile).
  void encodeTile(Value first) {
    if (layout.rotated) {
      rowsToScratch(first);
    }
    bool inOnePage = exact.layout->rowsPerPage % layout.tile == 0;
    Value rowPage = inOnePage ? store.page(exact, first) : Value();
    Value page = store.page(coded, first);
    for (ChannelChunk chunk : chunks) {
      encodeTileChunk(first, page, chunk, [&](Value t) -> Value {
        if (layout.rotated) {
          return scratchChunk(t, chunk);
        }
        Value row = k.add(first, t);
        return loadChunk(store.unit(exact, abi::PlaneRole::Rows, row,
                                    inOnePage ? rowPage : store.page(exact, row)),
                         chunk);
      });
    }
  }

  void encodeTileChunk(Value first, Value page, ChannelChunk chunk,
                       llvm::function_ref<Value(Value t)> load) {
    Value start = load(k.index(0));
    SmallVector<Value> ends =
        k.forLoop(k.index(1), k.index(layout.tile), k.index(1), {start, start},
                  [&](Value t, ValueRange carried) {
                    Value x = load(t);
                    return SmallVector<Value>{k.max(carried[0], x), k.min(carried[1], x)};
                  });
    GroupParameters parameters = quantizer.parameters(ends[0], ends[1]);
    store.storeF32(parameters.scale,
                   k.add(store.unit(coded, abi::PlaneRole::Scales, first, page),
                         chunk.start * abi::bytesOf(layout.scaleType)),
                   layout.scaleType);
    if (layout.zero != abi::ZeroKind::None) {
      Value at = k.add(store.unit(coded, abi::PlaneRole::Zeros, first, page),
                       chunk.start * abi::bytesOf(layout.zeroType));
      Value zero = quantizer.storedZero(parameters.zero);
      isFloatElement(layout.zeroType) ? store.storeF32(zero, at, layout.zeroType)
                                      : store.storeI32(zero, at, layout.zeroType);
    }
    int64_t perWord = 32 / layout.bits;
    Value wordsAt = k.add(store.unit(coded, abi::PlaneRole::Codes, first, page), chunk.start * 4);
    k.forLoop(k.index(layout.tile / perWord), [&](Value word) {
      Value packed;
      for (int64_t i = 0; i < perWord; ++i) {
        Value codes = quantizer.codes(load(k.add(k.mul(word, perWord), i)), parameters.zero,
                                      parameters.divisor);
        codes = i == 0 ? codes : k.shl(codes, k.splatI32(i * layout.bits, chunk.size));
        packed = i == 0 ? codes : k.ori(packed, codes);
      }
      store.storeI32(packed, k.add(wordsAt, k.mul(word, layout.width * 4)), abi::ElementType::I32);
    });
  }

  // ---- tile over several axes
  // ---------------------------------------------------------------------------------

  /// Codes the rows [first, first + tileRows).
  void encodeBlock(Value first) {
    rowsToScratch(first);
    for (ChannelChunk chunk : chunks) {
      Value start = scratchChunk(k.index(0), chunk);
      SmallVector<Value> ends =
          k.forLoop(k.index(1), k.index(layout.tileRows), k.index(1), {start, start},
                    [&](Value t, ValueRange carried) {
                      Value x = scratchChunk(t, chunk);
                      return SmallVector<Value>{k.max(carried[0], x), k.min(carried[1], x)};
                    });
      k.storeF32(ends[0], channelMax, k.index(chunk.start));
      k.storeF32(ends[1], channelMin, k.index(chunk.start));
    }
    double infinity = std::numeric_limits<double>::infinity();
    k.forLoop(k.index(layout.groupsPerRow()), [&](Value group) {
      k.store(k.f32(-infinity), groupMax, group);
      k.store(k.f32(infinity), groupMin, group);
    });
    k.forLoop(k.index(layout.width), [&](Value j) {
      Value group = groupIndex(j);
      k.store(k.max(k.load(groupMax, group), k.load(channelMax, j)), groupMax, group);
      k.store(k.min(k.load(groupMin, group), k.load(channelMin, j)), groupMin, group);
    });
    Value page = store.page(coded, first);
    storeGroups(first, page);
    k.forLoop(k.index(layout.tileRows), [&](Value t) {
      Value codesAt = store.unit(coded, abi::PlaneRole::Codes, k.add(first, t), page);
      for (ChannelChunk chunk : chunks) {
        Value zero = layout.zero == abi::ZeroKind::None ? Value() : groupLanes(groupMin, chunk);
        Value codes =
            quantizer.codes(scratchChunk(t, chunk), zero, groupLanes(groupMax, chunk));
        pack(codes, k.add(codesAt, chunk.start * layout.bits / 8));
      }
    });
  }

  /// Stores scale and zero of each group; groupMax then holds divisors, groupMin zeros.
  void storeGroups(Value first, Value page) {
    Value scaleAt = store.unit(coded, abi::PlaneRole::Scales, first, page);
    bool zeros = layout.zero != abi::ZeroKind::None;
    Value zeroAt = zeros ? store.unit(coded, abi::PlaneRole::Zeros, first, page) : Value();
    k.forLoop(k.index(layout.groupsPerRow()), [&](Value group) {
      GroupParameters parameters =
          quantizer.parameters(k.load(groupMax, group), k.load(groupMin, group));
      store.storeScalar(parameters.scale,
                        k.add(scaleAt, k.mul(group, abi::bytesOf(layout.scaleType))),
                        layout.scaleType);
      k.store(parameters.divisor, groupMax, group);
      if (zeros) {
        store.storeScalar(quantizer.storedZero(parameters.zero),
                          k.add(zeroAt, k.mul(group, abi::bytesOf(layout.zeroType))),
                          layout.zeroType);
        k.store(parameters.zero, groupMin, group);
      }
    });
  }

  /// The group of value `j` of a row.
  Value groupIndex(Value j) {
    Value group = k.index(0);
    int64_t stride = 1;
    for (const abi::ColumnLayout::Tile &tile : llvm::reverse(layout.tiles)) {
      Value place = k.floorDiv(k.rem(j, tile.extent), tile.size);
      group = k.add(group, k.mul(place, stride));
      stride *= (tile.extent + tile.size - 1) / tile.size;
      j = k.floorDiv(j, tile.extent);
    }
    return group;
  }

  /// What `perGroup` holds for the group of each channel of a chunk.
  Value groupLanes(Value perGroup, ChannelChunk chunk) {
    SmallVector<int32_t> which;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t channel = chunk.start + std::min(lane, chunk.size - 1);
      which.push_back(static_cast<int32_t>(layout.groupOf(channel)));
    }
    Value offsets = arith::ConstantOp::create(
        k.builder(), k.loc(),
        DenseElementsAttr::get(k.vec(k.i32Type()), ArrayRef<int32_t>(which)));
    return k.extractLanes(k.gather(perGroup, k.index(0), offsets), 0, chunk.size);
  }

  KernelBuilder &k;
  StoreAccess &store;
  const abi::ColumnLayout &layout;
  Quantizer quantizer;
  std::vector<ChannelChunk> chunks;
  SegmentAccess exact, coded;
  FactorAccess factor;
  Value scratch;
  Value groupMax, groupMin, channelMax, channelMin; ///< tile over several axes
};

} // namespace

EmittedKernel mlir::kvcache::cpu::emitEncode(ModuleOp module, StringRef name,
                                             ArrayRef<abi::ColumnLayout> columns, int64_t column) {
  std::vector<KernelArg> args{KernelArg::store("store")};
  if (columns[column].rank > 0) {
    args.push_back(KernelArg::buffer("basis", abi::ElementType::F32));
    args.push_back(KernelArg::buffer("mean", abi::ElementType::F32));
  }
  args.push_back(KernelArg::buffer("due", abi::ElementType::I64));
  args.push_back(KernelArg::scalars("scalars"));
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  Value blocks = k.scalarIndex(k.arg("scalars"), 0);
  auto task = k.splitTask({store.heads(), blocks});
  Value due = k.mul(task[0], 2);
  Value first = k.toIndex(k.load(k.arg("due"), due)),
        end = k.toIndex(k.load(k.arg("due"), k.add(due, 1)));
  Encoder encoder(store, column, task[0]);
  int64_t blockRows = encoder.blockRows();
  store.forRowBlocks(first, end, task[1], blocks, blockRows,
                     [&](Value lo, Value hi) { encoder.encodeRows(lo, hi); });
  k.finish();
  return {name.str(), args, {"blocks"}, {"heads", "blocks"}, blockRows};
}
