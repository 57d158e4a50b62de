// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The input file of `apply`: a dumped cache. Everything is checked when it is opened; afterwards
// rows are read straight from the mapping.

#pragma once

#include "runtime/Execution.h"
#include "runtime/io/Safetensors.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

class CacheFile {
public:
  /// Bad input, naming file and tensor, when a tensor is missing, unknown, or has a wrong shape or
  /// element type, or when there are no tokens.
  static rt::StatusOr<std::shared_ptr<CacheFile>> open(const std::string &path);

  const std::string &path() const { return file_->path(); }
  /// L, Hq, Hkv, D, the element type of k, and RoPE frequencies where the file has them.
  const rt::Geometry &geometry() const { return geometry_; }
  int64_t tokens() const { return tokens_; }         ///< T
  int64_t steps() const { return steps_; }           ///< S
  int64_t queryRows() const { return queryRows_; }   ///< w: rows of layers.i.q
  int64_t attendRows() const { return attendRows_; } ///< n: rows of layers.i.queries
  int64_t taskRows() const { return taskRows_; }     ///< R: rows of layers.i.task.q, .k: a second pass
  int64_t draftRows() const { return draftRows_; }   ///< rows of layers.i.rollout.q: drafted tokens
  bool hasQueries() const { return hasQueries_; }    ///< a tensor of layer 0 tells Hq
  /// Positions [T + S]; step s follows the last prompt row.
  const std::vector<int32_t> &positions() const { return positions_; }
  /// The file itself, for the tensors `table.NAME`.
  const rt::SafetensorsFile &tensors() const { return *file_; }
  /// Tables of the tensors `request.NAME`.
  const rt::RequestTables &requests() const { return requests_; }
  /// Token ids [T + S] of the tensor `ids`; empty when the file has none.
  const std::vector<int32_t> &ids() const { return ids_; }
  /// Tensors of layer 0 that are checked and that no phase can take: "hidden", "attr.NAME".
  std::vector<std::string> unusedTensors() const;
  /// Values of the metadata keys `param.NAME`.
  const std::map<std::string, std::string> &parameters() const { return parameters_; }

  /// Rows [first, first + count) of `layers.{layer}.{name}` [H, N, D] as f32 [count, H, D].
  std::vector<float> rows(int64_t layer, const std::string &name, int64_t first,
                          int64_t count) const;
  /// Queries of prompt rows [first, first + count) as [count, Hq, D]; rows that the file lacks are
  /// 0.
  std::vector<float> promptQueries(int64_t layer, int64_t first, int64_t count) const;
  /// Keys before RoPE of rows [first, first + count) of the prompt (`step` false: k_pre, or k
  /// turned back) or of the steps (step.k turned back).
  std::vector<float> preRopeKeys(int64_t layer, bool step, int64_t first, int64_t count) const;
  /// Bad input, naming tensor and file, unless keys before RoPE are there or can be computed.
  rt::Status checkPreRopeKeys() const;
  /// Bad input, naming tensor and file, unless there are rows of a second pass.
  rt::Status checkTaskRows(const std::string &method) const;
  /// Bad input, naming the first layer with too few rows of q. `needed`:
  /// rt::Execution::neededQueryRows().
  rt::Status checkQueryRows(int64_t needed, const std::string &method) const;

private:
  CacheFile() = default;
  rt::Status readLayout();
  rt::Status checkNames();
  rt::Status checkLayer(int64_t layer);
  rt::Status checkHeads(int64_t layer, const char *name, int64_t heads, int64_t rows) const;
  rt::Status readPositions();
  rt::Status readRequests();
  rt::StatusOr<std::vector<int32_t>> readTable(const std::string &name) const;
  rt::Status readRope();
  rt::Status bad(const std::string &tensor, const std::string &message) const;
  const rt::TensorView *find(int64_t layer, const std::string &name) const;
  int64_t rowsOf(const char *name) const;

  std::shared_ptr<rt::SafetensorsFile> file_;
  rt::Geometry geometry_;
  rt::DType dtype_ = rt::DType::F32;
  int64_t tokens_ = 0, steps_ = 0, queryRows_ = 0, attendRows_ = 0, taskRows_ = 0,
          draftRows_ = 0;
  bool hasQueries_ = false, hasPreRope_ = false;
  std::vector<int32_t> positions_, ids_;
  rt::RequestTables requests_;
  std::map<std::string, std::string> parameters_;
};

} // namespace kvcache::tools
