// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the runtime reports failure: a Status value, never an exception, an abort or a print.
// A message is one lower-case sentence without a full stop that names the file, tensor, op or
// parameter at fault, what was expected and what was found.

#pragma once

#include <string>
#include <utility>

namespace kvcache::rt {

/// Why a call failed. The numbers are part of the C ABI and never change meaning.
enum class StatusCode : int {
  Ok = 0,
  /// A check on results failed (command exit code 1).
  CheckFailed = 1,
  /// Input the caller gave is wrong (command exit code 2).
  BadInput = 2,
  /// The system refused something: memory, disk, a file.
  Unavailable = 3,
  /// A fault of Kvasir itself.
  Internal = 4,
};

class [[nodiscard]] Status {
public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status ok() { return {}; }
  static Status badInput(std::string message) { return {StatusCode::BadInput, std::move(message)}; }
  static Status checkFailed(std::string message) { return {StatusCode::CheckFailed, std::move(message)}; }
  static Status unavailable(std::string message) { return {StatusCode::Unavailable, std::move(message)}; }
  static Status internal(std::string message) { return {StatusCode::Internal, std::move(message)}; }

  bool isOk() const { return code_ == StatusCode::Ok; }
  StatusCode code() const { return code_; }
  const std::string &message() const { return message_; }

private:
  StatusCode code_ = StatusCode::Ok;
  std::string message_;
};

/// A value or the reason why there is none. Test it before the value is read.
template <typename T> class [[nodiscard]] StatusOr {
public:
  StatusOr(T value) : value_(std::move(value)) {}
  StatusOr(Status status) : status_(std::move(status)) {}

  bool isOk() const { return status_.isOk(); }
  const Status &status() const { return status_; }
  T &operator*() { return value_; }
  const T &operator*() const { return value_; }
  T *operator->() { return &value_; }
  const T *operator->() const { return &value_; }

private:
  Status status_;
  T value_{};
};

} // namespace kvcache::rt

/// Leaves the enclosing function with the status of `expr` unless it is ok.
#define KVCACHE_RETURN_IF_ERROR(expr)                                                              \
  do {                                                                                             \
    if (::kvcache::rt::Status status_ = (expr); !status_.isOk()) {                                 \
      return status_;                                                                              \
    }                                                                                              \
  } while (false)
