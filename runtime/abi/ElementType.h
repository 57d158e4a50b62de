// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Element types shared by the compiler, the runtime and the files they exchange. The numbers are
// written into executables and never change meaning.

#pragma once

#include <cstdint>
#include <string_view>

namespace kvcache::abi {

enum class ElementType : uint8_t { F32 = 0, F16 = 1, BF16 = 2, I8 = 3, U8 = 4, I16 = 5, I32 = 6, I64 = 7 };

constexpr int64_t bytesOf(ElementType type) {
  switch (type) {
  case ElementType::F32:
  case ElementType::I32:
    return 4;
  case ElementType::F16:
  case ElementType::BF16:
  case ElementType::I16:
    return 2;
  case ElementType::I64:
    return 8;
  case ElementType::I8:
  case ElementType::U8:
    return 1;
  }
  return 0;
}

constexpr std::string_view nameOf(ElementType type) {
  constexpr std::string_view names[] = {"f32", "f16", "bf16", "i8", "u8", "i16", "i32", "i64"};
  return names[static_cast<int>(type)];
}

/// The element type called `name`; false when there is none.
inline bool elementTypeFromName(std::string_view name, ElementType &type) {
  for (int i = 0; i < 8; ++i) {
    if (nameOf(static_cast<ElementType>(i)) == name) {
      type = static_cast<ElementType>(i);
      return true;
    }
  }
  return false;
}

} // namespace kvcache::abi
