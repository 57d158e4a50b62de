// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Holds no code: CMake precompiles the headers listed in KvasirTargets.cmake for this file, and every library that
// includes MLIR headers reuses the result.
