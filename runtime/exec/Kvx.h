// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The .kvx file: 8 bytes magic "KVASIRX1", u32 format version, u64 XXH3 of the payload (both little
// endian), then the payload, an Executable message (runtime/abi/executable.proto). The checksum
// guards against damage, not against malice: an executable is a program.

#pragma once

#include "runtime/Status.h"
#include "runtime/abi/executable.pb.h"

#include <memory>
#include <string>
#include <string_view>

namespace kvcache::rt {

/// The newest format this build reads and the one it writes.
constexpr uint32_t kvxFormatVersion = 1;

/// The bytes of the file for `executable`; equal messages give equal bytes.
StatusOr<std::string> serializeKvx(const proto::Executable &executable);
/// The message in `bytes`. Bad input, beginning with `name`, when they are no .kvx, cut short,
/// changed, or of a newer format.
StatusOr<std::shared_ptr<proto::Executable>> parseKvx(std::string_view bytes,
                                                      const std::string &name);
/// Writes a temporary file beside `path` and renames it.
Status writeKvx(const std::string &path, const proto::Executable &executable);
/// Reads `path`; see parseKvx.
StatusOr<std::shared_ptr<proto::Executable>> readKvx(const std::string &path);

/// Stores the bytes of a shared object in `code`, compressed.
Status packObject(std::string_view object, proto::NativeCode &code);
/// The bytes of the shared object. Bad input when its size is not the one stated, or beyond 256
/// MiB.
StatusOr<std::string> unpackObject(const proto::NativeCode &code);

} // namespace kvcache::rt
