// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The fused method as a graph: which ops each kernel computes in one loop nest, what that keeps out
// of memory, why kernels end where they do, and how values flow between kernels and states.

#pragma once

#include "tools/commands/Command.h"

#include <string>
#include <vector>

namespace kvcache::tools {

/// An op, or a place where values come from or go to.
struct GraphNode {
  enum class Kind { Op, State, Input, Result };
  Kind kind = Kind::Op;
  std::string label; ///< "reduce mean"; "kv"; "key"
  int kernel = -1;   ///< index into ProgramGraph::kernels; -1: no kernel op
};

struct GraphEdge {
  int from = 0, to = 0; ///< indices into ProgramGraph::nodes
  std::string value;    ///< "f32 [2, T]"
};

/// A value that fusion keeps out of memory.
struct SavedValue {
  std::string op, shape; ///< "map", "f32 [2, T]"
  double bytes = 0;      ///< one write, and one read for each use
};

struct GraphKernel {
  std::vector<std::string> ops; ///< in order; the last one makes the result
  std::string result;           ///< "f32 [2, T]"
  std::string boundary;         ///< why the result has memory
  std::vector<SavedValue> saved;
  bool conditional = false; ///< inside an scf.if: runs when it is due
};

/// One program of the fused method; node order is the order of the text.
struct ProgramGraph {
  std::string program;
  std::vector<GraphNode> nodes;
  std::vector<GraphEdge> edges;
  std::vector<GraphKernel> kernels;
};

using MethodGraph = std::vector<ProgramGraph>;

/// Rows of "program, ops, result, saved_bytes, saved, boundary".
Json toJson(const MethodGraph &graph);
/// What `explain --kernels` prints.
std::string toText(const MethodGraph &graph);
/// A Graphviz graph: a box per kernel around its ops, arrows along the flow of values, states once
/// as they are found and once as they are left.
std::string toDot(const MethodGraph &graph, const std::string &title);

} // namespace kvcache::tools
