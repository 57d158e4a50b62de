// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The reference target as one of the targets: it takes composed methods and interprets them.

#include "targets/reference/ReferenceTarget.h"

#include "targets/Target.h"

namespace mlir::kvcache {

namespace {

class ReferenceTarget final : public Target {
public:
  StringRef name() const override { return "reference"; }
  Stage stage() const override { return Stage::Composed; }
  bool makesExecutables() const override { return false; }
  void registerDialects(DialectRegistry &) const override {}
  std::vector<std::string> hostIsas() const override { return {}; }

  FailureOr<Artifact> compile(MethodOp method, const ::kvcache::rt::Geometry &,
                              const TargetOptions &) const override {
    return method.emitError() << "the reference target interprets: it makes no executables";
  }

  FailureOr<std::unique_ptr<::kvcache::rt::Execution>>
  load(MethodOp method, const ::kvcache::rt::Geometry &geometry,
       std::shared_ptr<const ::kvcache::proto::Executable>, const TargetOptions &) const override {
    return createReferenceExecution(method, geometry);
  }
};

} // namespace

const Target &referenceTarget() {
  static const ReferenceTarget target;
  return target;
}

} // namespace mlir::kvcache
