// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over one paged store, emitted as kernels: decode over any storage of K and V (split
// over tokens, then merged), prefill over exact rows, and the statistics of both. What a kernel
// computes is independent of how many threads run its tasks: split length, tile length and every
// order of additions are constants of the spec.
//
// Dims: R query rows, Hq query heads, Hkv KV heads (row heads of the store), G = Hq / Hkv, D head
// dim, T rows of a head of the store, S splits. A row of the store is visible to query row r when
// its position is <= qpos[r] (causal) and qpos[r] - position < window (window > 0). A query that
// sees nothing gives out = 0 and lse = -inf.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "targets/cpu/EmittedKernel.h"
#include "targets/cpu/NestEmitter.h"

#include "dialect/CacheOps.h"

#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

/// The clauses `logit` and `at` of an attention, and the values that they read.
struct AttendClauses {
  AttendOp op;       ///< null: neither
  int64_t group = 1; ///< query heads of a KV head of the model
  std::string queryAxis = "query", tokenAxis = "token";
  NestKernel inputs;              ///< inputs of the function and the index set; no outputs
  std::vector<KernelArg> args;    ///< the arguments that they name
  std::vector<std::string> words; ///< the words that they name

  bool changesLogits() const;
  bool choosesEntries() const;
  /// Whether the function reads its argument: 0 the logit, 1 and 2 the positions of query and key.
  bool readsArgument(unsigned number) const;
};

/// What to compute, with everything bound.
struct AttendSpec {
  std::string name; ///< prefix of the kernels' symbols
  int64_t queryHeads = 0, kvHeads = 0, headDim = 0;
  std::vector<::kvcache::abi::ColumnLayout> columns; ///< of the store, in its order
  int64_t k = 0, v = 1; ///< columns of keys (Dk <= D for each head, less than D only where they are
                        ///< exact) and of values (D for each head)
  int64_t pos = 2;      ///< i32 column of positions; read when causal or window > 0
  bool causal = true;
  int64_t window = 0;       ///< 0: none
  bool ropeView = false;    ///< keys are held before RoPE and read as rotated to their row number;
                            ///< exact or factor-free
  bool wantsOut = true;     ///< false: lse and statistics only, V is not read
  bool wantsLse = false;    ///< merge also writes lse
  bool wantsLogits = false; ///< decode also writes the scaled logits, -inf where masked
  int64_t splitRows = 1024; ///< rows of a decode split, a multiple of 64
  int64_t accumulators =
      16; ///< vectors of 16 f32 to accumulate in: 16 with 32 zmm, 4 with 16 ymm registers
  /// Codes of words over channels meet queries and probabilities that are fixed-point numbers of 16 bits
  /// (IntegerProducts.h), else f32.
  bool integerProducts = false;

  AttendClauses clauses;
  int64_t sharers = 1; ///< heads of kvHeads that read the same head of the store
  bool sharesRows = false; ///< the store has one head, whose rows of K and V hold the values of all KV
                           ///< heads, one head after the other

  int64_t group() const { return queryHeads / kvHeads; }
  bool wideRegisters() const { return accumulators >= 16; }
  /// KV heads whose values lie in one row.
  int64_t headsOfRow() const { return sharesRows ? kvHeads / sharers : 1; }
  /// The extent of a grid over kvHeads.
  std::string headGrid() const {
    return sharers == 1 && !sharesRows ? "heads" : std::to_string(kvHeads);
  }
  /// Channels of keys and queries, and the same rounded up to whole vectors.
  int64_t keyDim() const { return keys().width / headsOfRow(); }
  int64_t paddedKeyDim() const { return (keyDim() + lanes - 1) / lanes * lanes; }
  /// D rounded up to whole vectors.
  int64_t paddedDim() const { return (headDim + lanes - 1) / lanes * lanes; }
  bool readsPositions() const { return causal || window > 0; }
  bool readsKeyPositions() const { return readsPositions() || clauses.readsArgument(2); }
  bool readsQueryPositions() const { return readsPositions() || clauses.readsArgument(1); }
  const ::kvcache::abi::ColumnLayout &keys() const { return columns[k]; }
  const ::kvcache::abi::ColumnLayout &values() const { return columns[v]; }
  /// f32 words of the partial output of one head and split: Dp words of plain rows, then whatever
  /// the storage of V leaves to the merge (rotated rows, sums in the order of code words,
  /// coefficients and the sum of p).
  int64_t partialWidth() const;
  /// Query rows of one block of prefill: 64 lanes of rows and heads, or 16 rows of all heads.
  int64_t prefillRows() const;
};

/// Why the spec cannot be emitted; empty when it can.
std::string whyNotAttend(const AttendSpec &spec);

/// Kernel `<name>_decode`. Arguments: q f32 [R, Hq, Dk]; qpos i32 [R] (readsQueryPositions); store; rope
/// f32 [rows, D] (ropeView: the cosines of D/2 angles, then the sines); kBasis f32 [Hkv, D, rank],
/// kMean f32 [Hkv, D] (factor keys); partial f32 [R, Hq, S, partialWidth] (wantsOut); maxima f32
/// [R, Hq, S, 2] = maximum of the logits, sum of exp(logit - maximum); logits f32 [R, Hq, capacity]
/// (wantsLogits); those of the clauses. Words: rows = R, splits = S = ceil(max T / splitRows),
/// capacity, those of the clauses. Grid R x Hkv x S. Entries that are chosen are read one by one, in
/// the order of their list, which takes the place of the rows. Fails where a clause cannot be
/// compiled.
FailureOr<EmittedKernel> emitAttendDecode(ModuleOp module, const AttendSpec &spec);

/// Kernel `<name>_merge`. Arguments: partial (wantsOut), maxima as above; vBasis f32 [Hkv, D,
/// rank], vMean f32 [Hkv, D] (factor values); out f32 [R, Hq, D] (wantsOut); lse f32 [R, Hq]
/// (wantsLse). Words: rows = R, splits = S. Grid R x Hq.
EmittedKernel emitAttendMerge(ModuleOp module, const AttendSpec &spec);

/// Kernel `<name>_prefill`, over rows of K and V that are exact, without `at`. Arguments: q f32 [R,
/// Hq, Dk]; qpos i32 [R] (readsQueryPositions); store; out f32 [R, Hq, D] (wantsOut); lse f32 [R, Hq] (wantsLse).
/// Words: rows = R, blocks (see EmittedKernel::blockRows). Grid Hkv x blocks. With wantsOut = false
/// it is the pass that only finds lse.
FailureOr<EmittedKernel> emitAttendPrefill(ModuleOp module, const AttendSpec &spec);

} // namespace mlir::kvcache::cpu
