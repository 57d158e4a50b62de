// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The file that makes an evaluation resumable: one line of JSON for each finished part (a batch of
// samples under one method). A part is found again by its key, which names everything that its
// outcomes depend on; numbers come back bit for bit. Invariant: a line is complete or ignored.

#pragma once

#include "runtime/Status.h"
#include "runtime/eval/Outcome.h"

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace kvcache::rt {

class Journal {
public:
  /// Nothing is written; parts are kept in memory.
  Journal() = default;
  ~Journal();
  Journal(const Journal &) = delete;
  Journal &operator=(const Journal &) = delete;

  /// Reads `path` and opens it for appending; makes it when it does not exist. A last line that was
  /// cut off is ignored. Bad input names the file and line when another line is no journal entry.
  Status open(const std::string &path);
  /// The outcomes of a part, null when it is not there.
  const std::vector<SampleOutcome> *find(const std::string &key) const;
  /// Adds a part and writes it to disk before it returns.
  Status add(const std::string &key, std::vector<SampleOutcome> outcomes);

private:
  std::string path_;
  std::FILE *file_ = nullptr;
  std::map<std::string, std::vector<SampleOutcome>> parts_;
};

} // namespace kvcache::rt
