// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The transformations of the compiler as passes, for kvasir-opt. `kvasir` runs the same functions in the order of
// passes/pipelines/Stages.cpp.

#ifndef KVCACHE_PASSES
#define KVCACHE_PASSES

include "mlir/Pass/PassBase.td"

def ComposePass : Pass<"kvcache-compose", "::mlir::ModuleOp"> {
  let summary = "form one method out of several, slot by slot";
  let description = [{
    Appends the composed method to the module: `composed` of docs/architecture.md. Phases that no part defines come from
    the bases, then from the defaults.

    Before: `kvcache.method @a { .. score .. }`, `kvcache.method @b { .. state of coded columns .. }`
    After `parts=a,b`: `kvcache.method @"a+b.composed"` with prefill, decode, query, score, select and compress.
  }];
  let options = [ListOption<"parts", "parts", "std::string", "methods that define slots, in order">,
                 ListOption<"bases", "bases", "std::string", "methods that fill slots the parts leave out">,
                 ListOption<"overrides", "set", "std::string", "parameter values, name=value">];
}

def SpecializePass : Pass<"kvcache-specialize", "::mlir::kvcache::MethodOp"> {
  let summary = "bind geometry and parameters";
  let description = [{
    Before: `!kvcache.tensor<head:Hkv, token:?, channel.post:D, act>`, a block argument bound to `@window`.
    After: `!kvcache.tensor<head:8, token:?, channel.post:128, f16>`, `arith.constant 64 : index`.
  }];
  let options = [Option<"layers", "layers", "int64_t", "2", "L">, Option<"queryHeads", "query-heads", "int64_t", "8", "Hq">,
                 Option<"kvHeads", "kv-heads", "int64_t", "2", "Hkv">, Option<"headDim", "head-dim", "int64_t", "64", "D">,
                 Option<"act", "act", "std::string", "\"f16\"", "element type that `act` stands for">];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def FormProgramsPass : Pass<"kvcache-form-programs", "::mlir::kvcache::MethodOp"> {
  let summary = "inline the phases of each event into one program";
  let description = [{
    Before: phases score, select, compress. After: one phase `prompt_end` in which the score is an SSA value that the
    selection uses; phases on `longer(@kv, budget)` stand in an `scf.if`.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect"];
}

def DecomposeFamiliesPass : Pass<"kvcache-decompose-families"> {
  let summary = "replace family ops by primitives";
  let description = [{
    Before: `kvcache.score.norm %k over [channel.post]`. After: a map that squares, a reduce that sums, a map with
    `math.sqrt`.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

def FormKernelsPass : Pass<"kvcache-form-kernels"> {
  let summary = "group tensor computations into kernels by the bytes they save";
  let description = [{
    Before: a chain of map, reduce, map. After: one `kvcache.kernel`, because computing the reduction where it is used
    repeats nothing and saves its write and read.
  }];
}

def ShareBuffersPass : Pass<"kvcache-share-buffers"> {
  let summary = "put transient buffers into memory that no later step uses";
  let description = [{
    `planned` to `scheduled`: lifetimes are from the first to the last step that names a buffer, and extents are compared
    as products of slots, since they are numbers only when the program runs.

    Before: `kvcache.buffer transient "map" [2, %n] of f32`, every use of which comes after the last one of `%sums`.
    After: `kvcache.buffer transient "map" [2, %n] of f32 in %sums`.
  }];
}

def CheckLinearUsePass : Pass<"kvcache-check-linear-use"> {
  let summary = "check that caches can be updated in place";
  let description = [{
    Each version of a cache has one updating user, and everything that reads the version comes before it. Changes
    nothing.
  }];
}

def LabelsPass : Pass<"kvcache-labels", "::mlir::kvcache::MethodOp"> {
  let summary = "report the legality labels of a composed method as a remark";
  let description = [{
    `remark: labels of 'a.composed': append-only page-safe chunked-prefill-honest multi-turn-safe`. Changes nothing.
  }];
}

#endif
