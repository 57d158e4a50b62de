// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir-opt: reads IR, runs passes, prints IR. For tests and for reading what the compiler does.

#include "dialect/KVCacheDialect.h"
#ifdef KVASIR_HAS_PASSES
#include "passes/RegisterPasses.h"
#endif
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<mlir::kvcache::KVCacheDialect>();
  mlir::registerAllPasses();
#ifdef KVASIR_HAS_PASSES
  mlir::kvcache::registerKvasirPasses();
#endif
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "Kvasir optimizer driver\n", registry));
}
