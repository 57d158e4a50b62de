// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir-rt: runs compiled methods. Links neither MLIR nor LLVM.

#include "tools/commands/ApplyCommand.h"
#include "tools/commands/KvxProvider.h"
#include "tools/commands/RunCommand.h"
#include "tools/commands/VerifyCommand.h"

int main(int argc, char **argv) {
  using namespace kvcache::tools;
  KvxProvider provider(nullptr);
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(makeApplyCommand(provider));
  commands.push_back(makeRunCommand(provider));
  commands.push_back(makeVerifyCommand(provider));
  return runDriver(argc, argv, "Runs KV-cache methods that `kvasir compile` made.",
                   std::move(commands));
}
