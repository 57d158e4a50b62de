// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir-rt: runs compiled methods. Links neither MLIR nor LLVM.

#include "tools/commands/ApplyCommand.h"
#include "tools/commands/KvxProvider.h"

int main(int argc, char **argv) {
  using namespace kvcache::tools;
  KvxProvider provider(nullptr);
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(makeApplyCommand(provider));
  return runDriver(argc, argv, "Runs KV-cache methods that `kvasir compile` made.",
                   std::move(commands));
}
