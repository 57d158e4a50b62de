// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recursive descent over the grammar of Expression.h. Invariant: the first error wins.

#include "passes/specialize/Expression.h"

#include "llvm/ADT/StringExtras.h"

namespace mlir::kvcache {

namespace {

class Evaluator {
public:
  Evaluator(StringRef text, const std::map<std::string, int64_t> &names, std::string &error)
      : rest_(text), names_(names), error_(error) {}

  std::optional<int64_t> run() {
    int64_t value = sum(0);
    rest_ = rest_.ltrim();
    if (error_.empty() && !rest_.empty()) {
      error_ = "expected an operator, got '" + rest_.str() + "'";
    }
    return error_.empty() ? std::optional<int64_t>(value) : std::nullopt;
  }

private:
  bool take(char c) {
    rest_ = rest_.ltrim();
    return rest_.consume_front(StringRef(&c, 1));
  }

  int64_t sum(int depth) {
    int64_t value = product(depth);
    while (error_.empty()) {
      if (take('+')) {
        value += product(depth);
      } else if (take('-')) {
        value -= product(depth);
      } else {
        break;
      }
    }
    return value;
  }

  int64_t product(int depth) {
    int64_t value = factor(depth);
    while (error_.empty()) {
      if (take('*')) {
        value *= factor(depth);
      } else if (take('/')) {
        int64_t divisor = factor(depth);
        if (divisor == 0 && error_.empty()) {
          error_ = "division by zero";
        }
        value = error_.empty() ? value / divisor : 0;
      } else {
        break;
      }
    }
    return value;
  }

  int64_t factor(int depth) {
    if (depth > 32) {
      error_ = "expected at most 32 nested parentheses";
      return 0;
    }
    if (take('(')) {
      int64_t value = sum(depth + 1);
      if (!take(')') && error_.empty()) {
        error_ = "expected ')'";
      }
      return value;
    }
    rest_ = rest_.ltrim();
    StringRef word = rest_.take_while([](char c) { return llvm::isAlnum(c) || c == '_'; });
    rest_ = rest_.drop_front(word.size());
    int64_t value = 0;
    if (!word.empty() && !word.getAsInteger(10, value)) {
      return value;
    }
    auto found = names_.find(word.str());
    if (found != names_.end()) {
      return found->second;
    }
    if (error_.empty()) {
      error_ = word.empty() ? "expected a number or a name" : "unknown name '" + word.str() + "'";
    }
    return 0;
  }

  StringRef rest_;
  const std::map<std::string, int64_t> &names_;
  std::string &error_;
};

} // namespace

std::optional<int64_t> evaluateExpression(StringRef text,
                                          const std::map<std::string, int64_t> &names,
                                          std::string &error) {
  error.clear();
  return Evaluator(text, names, error).run();
}

} // namespace mlir::kvcache
