// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every refusal begins with the path of the file.

#include "tools/commands/KvxProvider.h"

#include "runtime/exec/Executor.h"

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

bool isKvxName(const std::string &method) {
  return method.size() > 4 && method.compare(method.size() - 4, 4, ".kvx") == 0;
}

StatusOr<std::unique_ptr<rt::Execution>> KvxProvider::load(const MethodRequest &request) {
  const std::string &path = request.method;
  if (!isKvxName(path)) {
    return compiler_
               ? compiler_->load(request)
               : Status::badInput(
                     "'" + path +
                     "': expected a .kvx file; `kvasir compile METHOD -o FILE.kvx` makes one");
  }
  if (request.target != "cpu") {
    return Status::badInput(path + ": expected --target cpu for an executable, got " +
                            request.target);
  }
  if (request.integerProducts) {
    return Status::badInput(
        path + ": its products were chosen when it was compiled (--products of `kvasir compile`)");
  }
  if (!request.parameters.empty()) {
    return Status::badInput(
        path + ": parameter '" + request.parameters.begin()->first +
        "' cannot be set: the parameters of an executable are bound when it is compiled");
  }
  rt::CompiledOptions options;
  options.captureScores = request.captureScores;
  StatusOr<std::unique_ptr<rt::CompiledExecution>> execution =
      rt::CompiledExecution::open(path, options);
  KVCACHE_RETURN_IF_ERROR(execution.status());
  const rt::Geometry &compiled = (*execution)->geometry();
  rt::Geometry wanted = request.geometry;
  if (request.anyQueryHeads) {
    wanted.queryHeads = compiled.queryHeads;
  }
  Status fits = rt::checkGeometry(compiled, wanted);
  if (!fits.isOk()) {
    return Status(fits.code(), path + ": " + fits.message());
  }
  if (compiled.act != wanted.act) {
    return Status::badInput(path + ": the method is compiled for activations in " +
                            std::string(abi::nameOf(compiled.act)) + ", the input has " +
                            std::string(abi::nameOf(wanted.act)));
  }
  return std::unique_ptr<rt::Execution>(std::move(*execution));
}

std::vector<MethodSummary> KvxProvider::shipped() {
  return compiler_ ? compiler_->shipped() : std::vector<MethodSummary>();
}

std::vector<std::string> KvxProvider::targets() const {
  return compiler_ ? compiler_->targets() : std::vector<std::string>{"cpu"};
}

} // namespace kvcache::tools
