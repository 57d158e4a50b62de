// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Legality labels: what a serving engine may do with a method, derived from data flow alone. Names
// of methods, phases that compute nothing, and the order of independent ops do not matter.

#pragma once

#include "mlir/Support/LLVM.h"

#include <string>
#include <vector>

namespace mlir::kvcache {

class MethodOp;

/// Labels of a composed method, in this order:
///   append-only              no entry is taken out or rewritten after it was appended (coding in
///   place is allowed) page-safe                all heads of a layer keep the same entries, so that
///   pages may be shared by heads chunked-prefill-honest   nothing before the end of the prompt
///   reads what only an uncompressed earlier chunk has multi-turn-safe          the end of the
///   prompt depends on no query, or drops nothing needs-question           what stays depends on
///   queries at the end of the prompt needs-calibration        artefacts are computed from a
///   calibration set
///   needs-training           artefacts come from a file: trained or searched outside
std::vector<std::string> legalityLabels(MethodOp method);

} // namespace mlir::kvcache
