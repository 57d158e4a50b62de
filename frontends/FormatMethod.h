// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method that is nothing but a way to store K and V, named by its formats: `store:int8/int4`
// keeps every row, keys in 8 bits and values in 4. Lets a user measure, run or compose a format
// without writing a file.

#pragma once

#include "mlir/Support/LLVM.h"
#include "llvm/Support/Error.h"

#include <string>

namespace mlir::kvcache {

/// What names of such methods begin with.
constexpr llvm::StringLiteral formatPrefix = "store:";

/// The text of the method called `formatPrefix` + `formats`, and in `symbol` its symbol name.
/// `formats` is one format for K and V or two, `K/V`; a format is
///
///     f32 | f16 | bf16             dense rows
///     int<bits>                    affine, bits in 2, 3, 4, 8; f16 minimum and scale for each 32
///     channels of a row int<bits>g<n>                for each n channels of a row int<bits>t<n>
///     for each channel of n neighbouring rows; rows are coded n at a time
///
/// Fails with a message that names the format and what was expected.
llvm::Expected<std::string> formatMethodText(StringRef formats, std::string &symbol);

} // namespace mlir::kvcache
