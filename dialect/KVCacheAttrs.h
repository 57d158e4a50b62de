// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attributes of the dialect: symbols, axes, storage terms, columns and the clauses of ops.

#pragma once

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Attributes.h"
#include "mlir/IR/OpImplementation.h"

#include <memory>
#include <optional>
#include <string>

namespace kvcache::abi {
struct StorageTerm;
} // namespace kvcache::abi

#define GET_ATTRDEF_CLASSES
#include "dialect/KVCacheAttrs.h.inc"

namespace mlir::kvcache {

/// Parses `integer | symbol | ?` into an IntegerAttr (i64), a SymAttr or a UnitAttr.
FailureOr<Attribute> parseExtent(AsmParser &parser, bool allowDynamic);
/// Prints what parseExtent reads.
void printExtent(llvm::raw_ostream &os, Attribute extent);
/// Parses `kind[.tag]:extent` after `name` has been read and its colon consumed.
FailureOr<AxisAttr> parseAxisAfterColon(AsmParser &parser, StringRef name, SMLoc loc);
/// Parses a storage term token by token and checks it against the grammar of StorageTerm.h; `first`
/// is the leading keyword when the caller has read it already.
FailureOr<StorageAttr> parseStorage(AsmParser &parser, StringRef first = {});

} // namespace mlir::kvcache
