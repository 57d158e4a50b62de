// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Makes a serial OpenBLAS safe to call from several threads at once. A serial
// build takes its work buffers from a table that it does not lock, so two
// concurrent calls can get the same buffer and compute garbage. This library
// defines the two functions that hand buffers out (`blas_memory_alloc`,
// `blas_memory_free`) so that each thread has its own; the dynamic linker
// prefers a program's definition.

#pragma once

namespace kvcache::rt {

/// Links the definitions into the program; whoever calls BLAS or LAPACK from
/// tasks calls this once before. False when the library's own functions are
/// still in force, and concurrent calls are unsafe.
bool useThreadLocalBlasBuffers();

} // namespace kvcache::rt
