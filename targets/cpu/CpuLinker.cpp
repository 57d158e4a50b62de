// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs LLVM's linker inside the process. The linker reads and writes files: they lie in a temporary
// folder that is gone when the call returns.

#include "targets/cpu/CpuPipeline.h"

#include "lld/Common/Driver.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace mlir;
using namespace mlir::kvcache::cpu;

namespace {

/// A fresh temporary folder, removed with what is in it.
class TemporaryFolder {
public:
  TemporaryFolder() : error_(llvm::sys::fs::createUniqueDirectory("kvasir-link", path_)) {}
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;
  ~TemporaryFolder() {
    if (!error_) {
      llvm::sys::fs::remove_directories(path_);
    }
  }
  std::error_code error() const { return error_; }
  std::string file(StringRef name) const { return (path_ + "/" + name).str(); }

private:
  SmallString<64> path_;
  std::error_code error_;
};

} // namespace

/// A stream that is destroyed with an error it was not asked about ends the process: a full disk must not.
static llvm::Error writeFile(const std::string &path, StringRef bytes) {
  std::error_code failure;
  llvm::raw_fd_ostream out(path, failure);
  if (!failure) {
    out << bytes;
    out.close();
    failure = out.error();
    out.clear_error();
  }
  return failure ? llvm::createStringError(failure, "cannot write '%s': %s", path.c_str(), failure.message().c_str())
                 : llvm::Error::success();
}

llvm::Expected<std::string> mlir::kvcache::cpu::linkSharedObject(StringRef relocatable) {
  TemporaryFolder folder;
  if (folder.error()) {
    return llvm::createStringError("cannot create a temporary folder to link in: " +
                                   folder.error().message());
  }
  std::string inputPath = folder.file("kernels.o"), outputPath = folder.file("kernels.so");
  if (llvm::Error error = writeFile(inputPath, relocatable)) {
    return error;
  }
  const char *arguments[] = {"ld.lld",
                             "-shared",
                             inputPath.c_str(),
                             "-o",
                             outputPath.c_str(),
                             "--strip-all",
                             "--build-id=none",
                             "--threads=1",
                             "-Bsymbolic",
                             "--hash-style=gnu",
                             "-z",
                             "noexecstack",
                             "-z",
                             "relro"};
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  static std::mutex oneAtATime; // the linker keeps its state in globals
  std::lock_guard<std::mutex> lock(oneAtATime);
  lld::Result result = lld::lldMain(arguments, stream, stream, {{lld::Gnu, &lld::elf::link}});
  auto bytes = llvm::MemoryBuffer::getFile(outputPath);
  if (result.retCode != 0 || !bytes) {
    return llvm::createStringError("cannot link the kernels: " + messages);
  }
  return (*bytes)->getBuffer().str();
}
