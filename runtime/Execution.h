// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The one interface between a compression method and whoever drives it (the decoder, `apply`,
// `eval`, `bench`). It has two implementations that must agree: the executor of a compiled `.kvx`
// (runtime/exec) and the reference target, which walks the IR (targets/reference).
//
// Order of events for each sequence: for each chunk of the prompt, for each layer `prefill` (or
// `ingest`, where the caller already has the attention output); then `promptEnd` once; then, for
// each generated token, `decode` for every layer and `stepEnd` once. Rows are exact inside the
// event that appended them; storage is coded at the end of `promptEnd` and of `stepEnd` (commit).
//
// Layout of every activation: row-major [rows, heads, D], f32, keys and queries after RoPE,
// queries not scaled. Dims: L layers, Hq query heads, Hkv KV heads, G = Hq / Hkv, T tokens, D head dim.

#pragma once

#include "runtime/Status.h"
#include "runtime/abi/ElementType.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt {

using abi::ElementType;

/// What an executable is compiled for. Another model's geometry is refused.
struct Geometry {
  int64_t layers = 0;
  int64_t queryHeads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  ElementType act = ElementType::F16;
  /// Sliding attention window in tokens (Mistral); 0 = none.
  int64_t slidingWindow = 0;
  /// RoPE inverse frequencies, [D/2], half-split pairs; empty when no method op rotates.
  std::vector<float> ropeInvFreq;
};

/// Tables that come with a prompt, by name: what the role `request(name)` gives to a method. A number is a table of one
/// entry; a table about tokens has one entry for each row fed, and rows behind its end have 0.
using RequestTables = std::map<std::string, std::vector<int32_t>>;

/// Per-sequence settings. `budget` is tokens per KV head and layer, window and sinks included;
/// -1 = the method has no token budget.
struct SequenceOptions {
  int64_t budget = -1;
  uint64_t seed = 0;
  RequestTables requests = {};
};

/// Sequences that a method is calibrated on, one at a time. Each begins as a text does.
struct CalibrationSource {
  /// "text": `count` texts of `size` tokens. "repeat": `count` random tokens, `size` times over. "needle": `count` prompts of
  /// `size` tokens that ask for what stands in them, with the answer that the model gives.
  std::string name;
  int64_t count = 0, size = 0;
};

/// Activations of one layer for `rows` new tokens of one sequence.
struct LayerRows {
  int64_t rows = 0;
  const float *q = nullptr;         ///< [rows, Hq, D]; may be null for `ingest` when needsIngestQueries() is 0
  const float *k = nullptr;         ///< [rows, Hkv, D], after RoPE
  const float *v = nullptr;         ///< [rows, Hkv, D]
  const float *kPre = nullptr;      ///< [rows, Hkv, D], before RoPE; null unless needsPreRopeKeys()
  const int32_t *positions = nullptr; ///< [rows]
  const int32_t *ids = nullptr;     ///< [rows], token ids; null unless needsIds()
  float *out = nullptr;             ///< [rows, Hq, D], attention output; unused by `ingest`
};

/// Bytes and rows of one layer of one sequence, as the allocator that holds them counts them.
struct LayerReport {
  std::vector<int64_t> keptRows;    ///< [Hkv]
  int64_t bytesMeasured = 0;        ///< pages held by this layer, metadata included
  double bytesClaimed = 0;          ///< from the type's formula and keptRows
  int64_t bytesOnePage = 0;         ///< one page of every column: the slack allowed per head
  double bitsK = 0, bitsV = 0;      ///< stored bits of the K (V) column, from the formula
  int64_t readBytesPerToken = 0;    ///< bytes a decode step reads, from the kernels' accounting
};

/// One coded side (k or v) of one head, for `apply` (design: conformance interface).
struct CodedRows {
  int64_t first = 0, rows = 0;      ///< coded rows are first .. first + rows
  std::vector<uint8_t> codes;       ///< [rows, n]
  std::vector<uint8_t> scales, zeros; ///< raw bytes in their storage type
  ElementType scaleType = ElementType::F16, zeroType = ElementType::F16;
  std::vector<int64_t> groupShape;  ///< per-channel groups [ceil(rows/g), n]; per-token groups [rows, ceil(n/g)]
  std::vector<uint8_t> packed;      ///< the stored bytes
  std::string layout;               ///< name of the packed layout (docs/layouts.md)
};

/// What a reader of the cache sees of one KV head of one layer.
struct HeadContents {
  std::vector<int32_t> source;      ///< ascending index, in order of arrival, of each kept row (prompt row t, step s = T + s)
  std::vector<int32_t> positions;   ///< RoPE position of each stored key
  std::vector<float> k, v;          ///< [rows, D], in the input's basis
  std::vector<float> scores;        ///< [T at the last select]; what select ranked, +inf forced, -inf not eligible; empty if none
  std::vector<float> counts;        ///< entries merged into each row; empty unless the method merges
  bool kCoded = false, vCoded = false;
  CodedRows codedK, codedV;
};

/// How a kernel of the method is realised on this target.
struct KernelReport {
  std::string name;
  std::vector<std::string> ops;     ///< the dialect ops it covers
  std::string target;
  std::string status;               ///< fused | partly | reference
  std::string reason;               ///< empty when fused
  int64_t bytesRead = 0, bytesWritten = 0; ///< accumulated since load
  double seconds = 0;
};

/// The cache and states of one sequence. Created and driven by the Execution that made it.
class Sequence {
public:
  virtual ~Sequence() = default;
  /// A copy that evolves independently (several questions over one compressed context).
  virtual std::unique_ptr<Sequence> fork() const = 0;
  virtual LayerReport report(int64_t layer) const = 0;
  virtual StatusOr<HeadContents> contents(int64_t layer, int64_t head) const = 0;
  /// Rows appended so far (prompt and steps), whatever was kept.
  virtual int64_t length() const = 0;
};

class ArtefactHolder;

/// A method bound to a geometry, ready to run. Thread-compatible: one call at a time.
class Execution {
public:
  virtual ~Execution() = default;

  virtual const Geometry &geometry() const = 0;
  virtual std::string methodName() const = 0;
  virtual std::string methodHash() const = 0;
  virtual std::string target() const = 0;
  /// Parameters as bound at compile time, printed.
  virtual std::map<std::string, std::string> parameters() const = 0;
  /// True when the method takes `--budget` in tokens.
  virtual bool hasTokenBudget() const = 0;
  /// Why not, and what it accepts instead; empty when it has one.
  virtual std::string budgetRefusal() const = 0;
  /// Rows of queries that `ingest` + `promptEnd` need: 0 none, n the last n rows, -1 all rows.
  virtual int64_t neededQueryRows() const = 0;
  virtual bool needsPreRopeKeys() const = 0;
  /// True when rows must come with their token ids.
  virtual bool needsIds() const { return false; }
  /// Names of the tables that SequenceOptions::requests must hold.
  virtual std::vector<std::string> neededRequests() const { return {}; }
  /// True when artefacts must be calibrated (or loaded) before a sequence can be created.
  virtual bool needsCalibration() const = 0;
  /// Feeds rows of one layer to the calibrate phase; `finishCalibration` turns them into artefacts.
  virtual Status calibrate(int64_t layer, const LayerRows &rows) = 0;
  /// What else the method calibrates on, apart from the rows that `calibrate` takes.
  virtual std::vector<CalibrationSource> calibrationSources() const { return {}; }
  /// Feeds a sequence of source number `source`, of one row or more: for each layer all of its rows, with queries, keys
  /// before RoPE and ids. `tables` of a needle: `needle` and `produced`, as the kind calibrate of a phase says.
  virtual Status calibrateSequence(size_t /*source*/, const std::vector<LayerRows> & /*layers*/,
                                   const RequestTables & /*tables*/) {
    return Status::internal("the method is calibrated on no sequences");
  }
  virtual Status finishCalibration() = 0;
  /// The artefacts, to be read or set; null where they stay inside.
  virtual ArtefactHolder *artefactHolder() { return nullptr; }

  virtual StatusOr<std::unique_ptr<Sequence>> createSequence(const SequenceOptions &options) = 0;

  /// Appends the rows of a prompt chunk and computes causal attention for them, batched over
  /// sequences (items may differ in rows).
  virtual Status prefill(int64_t layer, const std::vector<Sequence *> &sequences, const std::vector<LayerRows> &rows) = 0;
  /// As `prefill` without the attention output.
  virtual Status ingest(int64_t layer, const std::vector<Sequence *> &sequences, const std::vector<LayerRows> &rows) = 0;
  /// True when the prompt passes through the layers as one chunk and thins out on its way: after `prefill` of a layer,
  /// `passedRows` are the rows of that call that the next layer sees.
  virtual bool thinsPrompt() const { return false; }
  /// Rows of the last `prefill` of `layer`, ascending, that go on; all of them where the method drops none there.
  virtual StatusOr<std::vector<int64_t>> passedRows(int64_t /*layer*/, const Sequence & /*sequence*/) const {
    return Status::internal("the method drops no rows of the prompt");
  }
  /// True when the prompt is fed a second time, behind itself (positions T .. 2T - 1), by `probe` before `promptEnd`.
  virtual bool needsProbe() const { return false; }
  /// As `prefill` for rows of the second pass: they see the prompt and each other, and are gone before `promptEnd` scores.
  virtual Status probe(int64_t /*layer*/, const std::vector<Sequence *> & /*sequences*/, const std::vector<LayerRows> & /*rows*/) {
    return Status::internal("the method makes no second pass over the prompt");
  }
  /// Tokens to draft before `promptEnd`; 0 = none. The caller decodes them greedily on the cache of `startDraft` and hands
  /// their queries over with `setDraftQueries`.
  virtual int64_t draftSteps() const { return 0; }
  /// A throw-away copy of a prompt, compressed as the draft phase says, ready for `decode` and `stepEnd`.
  virtual StatusOr<std::unique_ptr<Sequence>> startDraft(const Sequence & /*prompt*/) {
    return Status::internal("the method drafts nothing");
  }
  /// Queries [rows, Hq, D] of the drafted tokens in one layer, after RoPE; fewer than draftSteps() after an end of text.
  virtual Status setDraftQueries(int64_t /*layer*/, Sequence & /*sequence*/, int64_t /*rows*/, const float * /*q*/) {
    return Status::internal("the method drafts nothing");
  }
  /// Scores, allocates, selects and compresses all layers, then commits. Once per sequence: after it, prefill and ingest
  /// are refused, because rows may be coded.
  virtual Status promptEnd(const std::vector<Sequence *> &sequences) = 0;
  /// Appends one row per sequence and attends with it.
  virtual Status decode(int64_t layer, const std::vector<Sequence *> &sequences, const std::vector<LayerRows> &rows) = 0;
  /// Runs the triggers that are due, then commits.
  virtual Status stepEnd(const std::vector<Sequence *> &sequences) = 0;
  /// Attention of `rows` queries over every stored entry (not causal, scale 1/sqrt(D)), as if they stood where the next
  /// token will; `lse` [rows, Hq] may be null.
  virtual Status attend(int64_t layer, const Sequence &sequence, int64_t rows, const float *q, float *out, float *lse) = 0;

  virtual std::vector<KernelReport> kernels() const = 0;
};

/// Bad input, naming the table, when `options` lacks a request table that the method needs.
inline Status checkRequests(const Execution &execution, const SequenceOptions &options) {
  for (const std::string &name : execution.neededRequests()) {
    if (options.requests.count(name) == 0) {
      return Status::badInput("method '" + execution.methodName() + "' needs the request table '" + name +
                              "', which was not given");
    }
  }
  return Status::ok();
}

} // namespace kvcache::rt
