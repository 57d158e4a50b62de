// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache.score.reduce as a kernel: what attention probabilities are reduced to, streamed over the
// rows of a store.

#pragma once

#include "dialect/ScoreOps.h"
#include "targets/cpu/Attend.h"
#include "targets/cpu/NestEmitter.h"

namespace mlir::kvcache::cpu {

struct AttendReduceSpec {
  AttendSpec attend;        ///< the attention whose probabilities these are
  ScoreReduceOp op;         ///< whose body is applied; null: the sum of p itself
  bool max = false;         ///< the largest instead of the sum
  bool fromLogits = false;  ///< from the logits that decode wrote, instead of from exact keys
  bool keepsGroup = false;  ///< the result has one row for each query head
  bool keepsQuery = false;  ///< .. and for each query row
  bool meanOfGroup = false; ///< f is applied to the mean over the heads of a group
  int64_t group = 1;        ///< query heads of a KV head of the model
  std::string queryAxis = "query", tokenAxis = "token";
  NestKernel inputs;                   ///< the inputs of the body; no ops, no outputs
  std::vector<KernelArg> inputArgs;    ///< the arguments that they name
  std::vector<std::string> inputWords; ///< the words that they name

  bool readsPositions() const;
  bool readsQueryPositions() const;
};

/// Kernel `<name>_reduce`: for each stored row the sum or maximum of f(exp(logit - lse)) over the
/// query rows [first, end) that see it; without any, 0 or -inf. Arguments: q f32 [R, Hq, D] (from
/// keys); qpos i32 [R] (readsQueryPositions); store; rope (from keys, ropeView: as in
/// emitAttendDecode); logits f32 [R, Hq, capacity] (fromLogits); lse f32 [R, Hq]; inputArgs;
/// reduced f32 [Hkv or Hq (keepsGroup), R (keepsQuery), capacity], of which each head's stored rows
/// are written. Words: first, end = R, capacity, blocks (of 64 stored rows, see
/// EmittedKernel::blockRows), inputWords. Grid Hkv x blocks.
FailureOr<EmittedKernel> emitAttendReduce(ModuleOp module, const AttendReduceSpec &spec);

} // namespace mlir::kvcache::cpu
