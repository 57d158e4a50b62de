// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calibration artefacts in a safetensors file: `layers.{i}.{name}` F32, and metadata that says what
// they belong to. A file serves every target of the method it was made for, and no other method.

#pragma once

#include "runtime/Execution.h"
#include "runtime/io/Safetensors.h"

#include <string>

namespace kvcache::tools {

/// What artefacts were calibrated on.
struct ArtefactOrigin {
  std::string source;    ///< a file, or the sequences of the method
  std::string modelHash; ///< empty: no model ran
  uint64_t seed = 0;     ///< of what was drawn
};

/// Writes the artefacts of a calibrated execution, with method, hash, parameters and geometry. Bad
/// input when the method has none.
rt::Status saveArtefacts(const std::string &path, rt::Execution &execution,
                         const ArtefactOrigin &origin);

/// Gives the artefacts of a file to `execution`. Bad input, naming the file and the first
/// difference, when they were made for another method, other parameters or another geometry, on
/// another model than that of `modelHash` (where both are known), or when a tensor is missing,
/// unknown, of another shape, or not finite.
rt::Status loadArtefacts(const std::string &path, rt::Execution &execution,
                         const std::string &modelHash = {});

/// Gives the tensors `table.NAME` of a file to the artefacts of that name: a table of all layers [L, ..], or one that
/// every layer reads whole. Numbers of any type; shapes may join axes. Bad input, naming file and tensor, when the method
/// has no such artefact, the number of elements differs, or one is not finite.
rt::Status loadTables(const rt::SafetensorsFile &file, rt::Execution &execution);

/// Says, as a note on stderr, which artefacts of an execution that needs no calibration hold the values its method
/// states for want of a file; nothing when it has none. For callers that were given no file, or one whose `tables` name
/// only some.
void noteStatedArtefacts(rt::Execution &execution, const rt::SafetensorsFile *tables = nullptr);

/// The hash of the method that a file of artefacts belongs to. Bad input when it is no such file.
rt::StatusOr<std::string> methodHashOfArtefacts(const std::string &path);

/// A checksum of the artefacts of all layers, the same for equal values.
std::string checksumOfArtefacts(rt::Execution &execution);

} // namespace kvcache::tools
