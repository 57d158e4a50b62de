// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Machine code of an executable, mapped into the process. Invariant: the code stays mapped as long
// as the object lives, and nothing of it touches the disk.

#pragma once

#include "runtime/Status.h"
#include "runtime/abi/KernelAbi.h"
#include "runtime/abi/executable.pb.h"
#include "runtime/exec/HostCpu.h"

#include <memory>
#include <string>
#include <string_view>

namespace kvcache::rt {

class CodeObject {
public:
  /// Maps an ELF shared object. Bad input, with the linker's reason, when it is none or needs a
  /// symbol that is not there. A program that loads code with an eigensolver call links the exec
  /// library, which exports `kvcache_symmetric_eigen` from it.
  static StatusOr<std::shared_ptr<CodeObject>> load(std::string_view object);
  /// Maps the widest of the executable's codes that runs on `host`. Bad input with the reasons when
  /// none does.
  static StatusOr<std::shared_ptr<CodeObject>> loadBest(const proto::Executable &executable,
                                                        const HostCpu &host);
  ~CodeObject();
  CodeObject(const CodeObject &) = delete;
  CodeObject &operator=(const CodeObject &) = delete;

  /// The kernel called `symbol`, null when there is none.
  kvcache_kernel_fn kernel(const std::string &symbol) const;
  /// The instruction set it was compiled for; empty when loaded from bytes.
  const std::string &isa() const { return isa_; }

private:
  CodeObject() = default;
  int file_ = -1;
  void *handle_ = nullptr;
  std::string isa_;
};

} // namespace kvcache::rt
