// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How many tokens each layer and head kept, as a picture.

#pragma once

#include "runtime/eval/Cell.h"

#include <string>

namespace kvcache::tools {

/// An <svg> element: one row for each layer, one column for each KV head, darker for more tokens
/// (white: none, full colour: all tokens of the prompt), the number in each cell where there is
/// room.
std::string keptPicture(const rt::CellReport &cell);

} // namespace kvcache::tools
