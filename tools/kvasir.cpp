// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir: compiles and runs KV-cache compression methods.

#include "tools/commands/ApplyCommand.h"
#include "tools/commands/BenchCommand.h"
#include "tools/commands/CalibrateCommand.h"
#include "tools/commands/CompileCommand.h"
#include "tools/commands/DemoCommand.h"
#include "tools/commands/EvalCommand.h"
#include "tools/commands/ExplainCommand.h"
#include "tools/commands/KvxProvider.h"
#include "tools/commands/MethodsCommand.h"
#include "tools/commands/RunCommand.h"
#include "tools/commands/SearchCommand.h"
#include "tools/commands/VerifyCommand.h"
#include "tools/compiler/CompilerProvider.h"

int main(int argc, char **argv) {
  using namespace kvcache::tools;
  CompilerProvider compiler;
  KvxProvider provider(&compiler);
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(makeDemoCommand(provider, makeDemoTimer(provider)));
  commands.push_back(makeMethodsCommand(provider));
  commands.push_back(makeApplyCommand(provider));
  commands.push_back(makeCalibrateCommand(provider));
  commands.push_back(makeSearchCommand(provider));
  commands.push_back(makeExplainCommand(compiler));
  commands.push_back(makeCompileCommand(compiler));
  commands.push_back(makeRunCommand(provider));
  commands.push_back(makeEvalCommand(provider));
  commands.push_back(makeBenchCommand(provider));
  commands.push_back(makeVerifyCommand(provider));
  return runDriver(argc, argv, "Compiles and runs KV-cache compression methods.",
                   std::move(commands));
}
