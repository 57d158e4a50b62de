// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What calibration makes, in a form that every target understands: so that it can be kept in a file
// and given to another execution of the same method.

#pragma once

#include "runtime/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

struct ArtefactShape {
  std::string name;
  std::vector<int64_t> dims; ///< of one layer's instance, row-major
};

/// An execution whose artefacts can be read and set.
class ArtefactHolder {
public:
  virtual ~ArtefactHolder() = default;
  /// In the order in which the method declares them; empty for a method without any.
  virtual std::vector<ArtefactShape> artefactShapes() const = 0;
  /// The values of an artefact of a layer; empty before calibration.
  virtual std::vector<float> artefactValues(size_t index, int64_t layer) const = 0;
  /// Sets them for the sequences made from now on. Bad input when the number of values is another.
  virtual Status setArtefactValues(size_t index, int64_t layer,
                                   const std::vector<float> &values) = 0;
};

} // namespace kvcache::rt
