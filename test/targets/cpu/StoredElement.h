// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Column layouts from text and single elements of any type in memory, for tests.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "runtime/io/Half.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace kvcache::test {

using abi::ColumnLayout;
using abi::ElementType;

/// The layout of a column from the text of its storage term.
inline ColumnLayout columnOf(const std::string &storage, int64_t width,
                             ElementType act = ElementType::F16) {
  std::string error;
  auto term = abi::parseStorageTerm(storage, error);
  auto layout = term ? abi::computeColumnLayout(*term, width, act, error) : std::nullopt;
  if (!layout) {
    throw std::runtime_error("column '" + storage + "': " + error);
  }
  return *layout;
}

/// The f32 that `value` becomes when it is stored as a float element.
inline float rounded(float value, ElementType elem) {
  switch (elem) {
  case ElementType::F16:
    return rt::f32FromF16(rt::f16FromF32(value));
  case ElementType::BF16:
    return rt::f32FromBf16(rt::bf16FromF32(value));
  default:
    return value;
  }
}

/// Reads / writes one element of any type as a double.
inline double loadElement(const uint8_t *at, ElementType elem) {
  auto as = [&](auto zero) {
    std::memcpy(&zero, at, sizeof(zero));
    return zero;
  };
  switch (elem) {
  case ElementType::F32:
    return as(float());
  case ElementType::F16:
    return rt::f32FromF16(as(uint16_t()));
  case ElementType::BF16:
    return rt::f32FromBf16(as(uint16_t()));
  case ElementType::I8:
    return as(int8_t());
  case ElementType::U8:
    return as(uint8_t());
  case ElementType::I16:
    return as(int16_t());
  case ElementType::I32:
    return as(int32_t());
  case ElementType::I64:
    return static_cast<double>(as(int64_t()));
  }
  return 0;
}

inline void storeElement(uint8_t *at, ElementType elem, double value) {
  auto put = [&](auto element) { std::memcpy(at, &element, sizeof(element)); };
  switch (elem) {
  case ElementType::F32:
    put(static_cast<float>(value));
    break;
  case ElementType::F16:
    put(rt::f16FromF32(static_cast<float>(value)));
    break;
  case ElementType::BF16:
    put(rt::bf16FromF32(static_cast<float>(value)));
    break;
  case ElementType::I8:
    put(static_cast<int8_t>(value));
    break;
  case ElementType::U8:
    put(static_cast<uint8_t>(value));
    break;
  case ElementType::I16:
    put(static_cast<int16_t>(value));
    break;
  case ElementType::I32:
    put(static_cast<int32_t>(value));
    break;
  case ElementType::I64:
    put(static_cast<int64_t>(value));
    break;
  }
}

} // namespace kvcache::test
