// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Is the result of a target the result of the reference? Index sets, positions, codes and untouched
// rows must be equal; outputs agree within a relative L2 tolerance. A swap across a cut whose
// reference scores are within the score tolerance is legal and counted.

#pragma once

#include "tools/commands/ApplyMethod.h"

#include <string>

namespace kvcache::tools {

/// Relative tolerance of scores at a cut (f32).
constexpr double scoreTolerance = 1e-5;

/// No output may be off by more.
constexpr double largestTolerance = 2e-3;

/// Relative L2 tolerance of outputs for a cache of this element type; fixed-point numbers of 16
/// bits are off by more than f32 is.
double outputTolerance(abi::ElementType act, bool integerProducts);

struct Comparison {
  int64_t boundarySwaps = 0;
  double worstError = 0; ///< largest relative L2 error of an output that agreed
  /// Ok, or check failed naming the first tensor that differs and the op that makes it.
  rt::Status status;
};

/// Compares what `execution` made with what the reference made of the same input; outputs agree
/// within `tolerance`.
Comparison compareResults(const ApplyResult &actual, const ApplyResult &reference,
                          const rt::Execution &execution, double tolerance);

} // namespace kvcache::tools
