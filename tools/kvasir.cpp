// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir: compiles and runs KV-cache compression methods.

#include "tools/commands/ApplyCommand.h"
#include "tools/commands/KvxProvider.h"
#include "tools/compiler/CompilerProvider.h"

int main(int argc, char **argv) {
  using namespace kvcache::tools;
  CompilerProvider compiler;
  KvxProvider provider(&compiler);
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(makeApplyCommand(provider));
  return runDriver(argc, argv, "Compiles and runs KV-cache compression methods.",
                   std::move(commands));
}
