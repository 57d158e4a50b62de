// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect: registers types, attributes and the families, and names types so that printed IR
// stays short. Names of aliases carry no meaning.

#include "dialect/KVCacheDialect.h"

#include "dialect/KVCacheTypes.h"
#include "mlir/IR/DialectImplementation.h"

#include "dialect/KVCacheDialect.cpp.inc"

namespace mlir::kvcache {
namespace {

/// Aliases: caches and index sets by kind, tensors by the initials of their axes and their element.
struct KVCacheAliases : OpAsmDialectInterface {
  using OpAsmDialectInterface::OpAsmDialectInterface;

  AliasResult getAlias(Type type, raw_ostream &os) const override {
    if (auto tensor = dyn_cast<AxisTensorType>(type)) {
      for (AxisAttr axis : tensor.getAxes()) {
        os << axis.getKind().front() << (axis.getTag().empty() ? "" : axis.getTag());
      }
      os << "_t";
      return AliasResult::OverridableAlias;
    }
    if (isa<CacheType>(type)) {
      os << "kv";
      return AliasResult::OverridableAlias;
    }
    if (isa<IndexSetType>(type)) {
      os << "keep";
      return AliasResult::OverridableAlias;
    }
    return AliasResult::NoAlias;
  }
};

} // namespace

void KVCacheDialect::initialize() {
  registerAttrs();
  registerTypes();
  registerMethodOps(this);
  registerPrimitiveOps(this);
  registerRowOps(this);
  registerCacheOps(this);
  registerScoreOps(this);
  registerSelectOps(this);
  registerQuantizeOps(this);
  registerMergeOps(this);
  registerProjectOps(this);
  registerKernelOps(this);
  registerScheduleOps(this);
  addInterfaces<KVCacheAliases>();
}

} // namespace mlir::kvcache
