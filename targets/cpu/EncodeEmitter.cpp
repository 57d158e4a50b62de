// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The encode kernel: loads due rows, transforms them, quantizes over channels or tokens, packs.

#include "targets/cpu/EncodeEmitter.h"

#include "targets/cpu/EncodeEmitterQuantizer.h"
#include "targets/cpu/RowTransforms.h"
#include "targets/cpu/StoreAccess.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

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
  if (column.rotated && column.tileAxis == abi::TileAxis::Token &&
      column.tile * column.width > maxScratchValues) {
    return "expected at most " + std::to_string(maxScratchValues) +
           " values in a rotated tile over tokens, got " +
           std::to_string(column.tile * column.width);
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
    } else if (layout.rotated && overTokens()) {
      scratch = stackF32(k, layout.tile * layout.width);
    }
  }

  bool overTokens() const { return layout.affine() && layout.tileAxis == abi::TileAxis::Token; }
  /// A multiple of the tile, so that a tile belongs to one task.
  int64_t blockRows() const {
    return overTokens() ? (encodeBlockRows + layout.tile - 1) / layout.tile * layout.tile
                        : encodeBlockRows;
  }

  void encodeRows(Value lo, Value hi) {
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

  /// Codes the rows [first, first + tile).
  void encodeTile(Value first) {
    if (layout.rotated) {
      k.forLoop(k.index(layout.tile), [&](Value t) {
        SmallVector<Value> values =
            loadRow(store.unit(exact, abi::PlaneRole::Rows, k.add(first, t)));
        for (auto [chunk, value] : llvm::zip(chunks, values)) {
          k.storeF32(value, scratch, k.add(k.mul(t, layout.width), chunk.start));
        }
      });
    }
    bool inOnePage = exact.layout->rowsPerPage % layout.tile == 0;
    Value rowPage = inOnePage ? store.page(exact, first) : Value();
    Value page = store.page(coded, first);
    for (ChannelChunk chunk : chunks) {
      encodeTileChunk(first, page, chunk, [&](Value t) -> Value {
        if (layout.rotated) {
          return k.loadF32(scratch, k.add(k.mul(t, layout.width), chunk.start), {}, chunk.size);
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

  KernelBuilder &k;
  StoreAccess &store;
  const abi::ColumnLayout &layout;
  Quantizer quantizer;
  std::vector<ChannelChunk> chunks;
  SegmentAccess exact, coded;
  FactorAccess factor;
  Value scratch;
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
