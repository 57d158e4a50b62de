// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The graph as JSON, text and Graphviz. No arrow points both ways: what a program reads is at its
// left, what it leaves at its right.

#include "tools/commands/MethodGraph.h"

#include <fmt/format.h>

namespace kvcache::tools {

static double savedBytes(const GraphKernel &kernel) {
  double bytes = 0;
  for (const SavedValue &value : kernel.saved) {
    bytes += value.bytes;
  }
  return bytes;
}

Json toJson(const MethodGraph &graph) {
  Json rows = Json::array();
  for (const ProgramGraph &program : graph) {
    for (const GraphKernel &kernel : program.kernels) {
      Json saved = Json::array();
      for (const SavedValue &value : kernel.saved) {
        saved.push_back({{"op", value.op}, {"shape", value.shape}, {"bytes", value.bytes}});
      }
      rows.push_back({{"phase", program.program},
                      {"ops", kernel.ops},
                      {"result", kernel.result},
                      {"conditional", kernel.conditional},
                      {"saved_bytes", savedBytes(kernel)},
                      {"saved", saved},
                      {"boundary", kernel.boundary}});
    }
  }
  return rows;
}

std::string toText(const MethodGraph &graph) {
  std::string text;
  for (const ProgramGraph &program : graph) {
    for (size_t i = 0; i < program.kernels.size(); ++i) {
      const GraphKernel &kernel = program.kernels[i];
      text += fmt::format("fused      {:<11} {} -> {}{}\n", i == 0 ? program.program : "",
                          fmt::join(kernel.ops, " + "), kernel.result,
                          kernel.conditional ? ", when it is due" : "");
      for (const SavedValue &value : kernel.saved) {
        text += fmt::format("             saves     {} of {} is not in memory: {:.0f} bytes\n",
                            value.shape, value.op, value.bytes);
      }
      text += fmt::format("             ends here {}\n", kernel.boundary);
    }
  }
  return text;
}

static std::string dotText(const std::string &text) {
  std::string result = "\"";
  for (char c : text) {
    result += c == '\n' ? "\\n" : c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return result + "\"";
}

namespace {

/// One program of the picture.
class DotProgram {
public:
  DotProgram(const ProgramGraph &program, size_t index) : program_(program), index_(index) {}

  std::string write() const {
    std::string text =
        fmt::format("  subgraph cluster_p{} {{\n    label={};\n    color=\"#b0b0b0\"; "
                    "fontsize=20; labeljust=l;\n",
                    index_, dotText(program_.program));
    for (size_t k = 0; k < program_.kernels.size(); ++k) {
      text += kernel(k);
    }
    for (size_t n = 0; n < program_.nodes.size(); ++n) {
      text += program_.nodes[n].kernel < 0 ? "    " + node(n) : "";
    }
    text += "  }\n";
    for (const GraphEdge &edge : program_.edges) {
      int from = program_.nodes[edge.from].kernel, to = program_.nodes[edge.to].kernel;
      bool inside = from >= 0 && from == to; // in registers: no memory, no shape
      text += fmt::format("  {} -> {} [{}];\n", name(edge.from), name(edge.to),
                          inside ? "color=\"#8a8a8a\""
                                 : "label=" + dotText(edge.value) + ", fontsize=9");
    }
    return text;
  }

private:
  std::string name(size_t node) const { return fmt::format("p{}n{}", index_, node); }

  std::string node(size_t n) const {
    const GraphNode &node = program_.nodes[n];
    const char *look = node.kind == GraphNode::Kind::State
                           ? "shape=cylinder, style=filled, fillcolor=\"#dde8f5\""
                       : node.kind != GraphNode::Kind::Op ? "shape=plaintext"
                       : node.kernel < 0 // a kernel of its own
                           ? "shape=box, style=\"filled,rounded\", fillcolor=\"#f3efe0\", "
                             "color=\"#c9bd8c\""
                           : "shape=box";
    return fmt::format("{} [label={}, {}];\n", name(n), dotText(node.label), look);
  }

  std::string kernel(size_t k) const {
    const GraphKernel &kernel = program_.kernels[k];
    double bytes = savedBytes(kernel);
    std::string label = kernel.conditional ? "kernel, when it is due" : "kernel";
    label += bytes > 0 ? fmt::format("\nkeeps {:.0f} bytes out of memory", bytes) : "";
    std::string text =
        fmt::format("    subgraph cluster_p{}k{} {{\n      label={}; tooltip={}; fontsize=10; "
                    "style=\"filled,rounded\"; fillcolor=\"#f3efe0\"; color=\"#c9bd8c\";\n",
                    index_, k, dotText(label), dotText("ends here: " + kernel.boundary));
    for (size_t n = 0; n < program_.nodes.size(); ++n) {
      text += program_.nodes[n].kernel == static_cast<int>(k) ? "      " + node(n) : "";
    }
    return text + "    }\n";
  }

  const ProgramGraph &program_;
  size_t index_;
};

} // namespace

std::string toDot(const MethodGraph &graph, const std::string &title) {
  std::string text =
      "digraph method {\n  rankdir=LR;\n  compound=true;\n  label=" + dotText(title) +
      "; labelloc=t; fontsize=24;\n  fontname=\"Helvetica\";\n"
      "  node [fontname=\"Helvetica\", fontsize=12];\n"
      "  edge [fontname=\"Helvetica\"];\n";
  for (size_t i = graph.size(); i-- > 0;) { // Graphviz stacks them from the bottom
    if (graph[i].program != "ingest") {     // prefill without its attention output
      text += DotProgram(graph[i], i).write();
    }
  }
  return text + "}\n";
}

} // namespace kvcache::tools
