// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What tasks are made of: held-out text and words, from the folder of a byte-level model. The first
// third of each text is for calibration, the rest for evaluation; the two are never mixed.

#pragma once

#include "runtime/Status.h"
#include "runtime/eval/Random.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

struct TaskMaterial {
  std::vector<std::string> names;       ///< file name of each text, sorted
  std::vector<std::string> calibration; ///< the first third of each text
  std::vector<std::string> evaluation;  ///< the rest of each text
  std::vector<std::string> words;       ///< distinct, lower case

  /// Reads `directory`/heldout-*.txt and `directory`/words.txt. Bad input names the file that is
  /// missing, empty or not ASCII.
  static StatusOr<TaskMaterial> load(const std::string &directory);

  /// `bytes` consecutive bytes of the evaluation part of a text drawn by size. Bad input when no
  /// text is that long.
  StatusOr<std::string> filler(Random &random, int64_t bytes) const;
};

/// Splits `texts` after a third (rounded down) of their bytes.
void splitForCalibration(const std::vector<std::string> &texts, TaskMaterial &material);

/// `bytes` consecutive bytes of one of `texts`, each position of each text alike. Bad input when
/// none is that long.
StatusOr<std::string> drawText(const std::vector<std::string> &texts, Random &random,
                               int64_t bytes);

} // namespace kvcache::rt
