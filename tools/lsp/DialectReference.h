// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// docs/dialect.md as text. Defined in a generated file (EmbedReference.cmake).

#pragma once

namespace kvcache::tools {

extern const char dialectReferenceText[];

} // namespace kvcache::tools
