// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Resolves names to texts, texts to one module, and `method` parameters to bases.

#include "frontends/MethodSource.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/MethodOps.h"
#include "frontends/FormatMethod.h"
#include "frontends/MethodParser.h"
#include "frontends/MethodTexts.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

namespace mlir::kvcache {
namespace {

ArrayRef<MethodText> shipped() { return {shippedMethodTexts, numShippedMethodTexts}; }

const MethodText *findShipped(StringRef name) {
  const MethodText *it =
      llvm::find_if(shipped(), [&](const MethodText &text) { return name == text.name; });
  return it == shipped().end() ? nullptr : it;
}

/// Collects methods into one module; each text is parsed once.
class MethodLoader {
public:
  MethodLoader(MLIRContext &context, const std::map<std::string, std::string> &overrides)
      : context_(context), overrides_(overrides) {
    loaded_.module = ModuleOp::create(UnknownLoc::get(&context));
  }

  FailureOr<LoadedMethods> load(StringRef source) {
    SmallVector<StringRef> pieces;
    if (llvm::sys::fs::is_regular_file(source)) { // a file may have a '+' in its name
      pieces.push_back(source);
    } else {
      source.split(pieces, '+');
    }
    for (StringRef piece : pieces) {
      if (failed(addSource(piece.trim()))) {
        return failure();
      }
    }
    for (size_t i = 0; i < loaded_.parts.size(); ++i) {
      if (failed(addBases(loaded_.parts[i], 0))) {
        return failure();
      }
    }
    return std::move(loaded_);
  }

private:
  /// About a file as a whole: line 0.
  InFlightDiagnostic error(StringRef path) {
    return emitError(FileLineColLoc::get(&context_, path, 0, 0));
  }

  LogicalResult unknown(StringRef name) {
    InFlightDiagnostic diagnostic = emitError(UnknownLoc::get(&context_)); // a name has no place
    diagnostic << "unknown method '" << name
               << "': expected a .mlir file, formats such as store:int8/int4, or one of ";
    llvm::interleaveComma(shipped(), diagnostic,
                          [&](const MethodText &text) { diagnostic << text.name; });
    const MethodText *nearest = nullptr;
    unsigned least = 3;
    for (const MethodText &text : shipped()) {
      unsigned distance = name.edit_distance(text.name, /*AllowReplacements=*/true, least);
      if (distance < least) {
        least = distance;
        nearest = &text;
      }
    }
    if (nearest) {
      diagnostic << "; did you mean '" << nearest->name << "'?";
    }
    return diagnostic;
  }

  LogicalResult moveMethods(ModuleOp from, StringRef path) {
    for (MethodOp method : llvm::make_early_inc_range(from.getOps<MethodOp>())) {
      if (loaded_.module->lookupSymbol(method.getSymName())) {
        return method.emitError() << "method '" << method.getSymName() << "' is defined twice";
      }
      method->moveBefore(loaded_.module->getBody(), loaded_.module->getBody()->end());
    }
    return success();
  }

  LogicalResult addShipped(const MethodText &text) {
    if (loaded_.module->lookupSymbol(text.name)) {
      return success();
    }
    std::string path = std::string(text.name) + ".mlir";
    FailureOr<OwningOpRef<ModuleOp>> module = parseMethodText(context_, text.text, path);
    return failed(module) ? failure() : moveMethods(**module, path);
  }

  /// A method of the module or a shipped one.
  LogicalResult addByName(StringRef name) {
    if (loaded_.module->lookupSymbol<MethodOp>(name)) {
      return success();
    }
    const MethodText *text = findShipped(name);
    return text ? addShipped(*text) : unknown(name);
  }

  /// A method made of names of formats, `store:..`.
  LogicalResult addFormats(StringRef source) {
    std::string symbol;
    llvm::Expected<std::string> text =
        formatMethodText(source.drop_front(formatPrefix.size()), symbol);
    if (!text) {
      return emitError(UnknownLoc::get(&context_))
             << source << ": " << llvm::toString(text.takeError());
    }
    loaded_.parts.push_back(symbol);
    if (loaded_.module->lookupSymbol(symbol)) {
      return success();
    }
    FailureOr<OwningOpRef<ModuleOp>> module = parseMethodText(context_, *text, source);
    return failed(module) ? failure() : moveMethods(**module, source);
  }

  LogicalResult addSource(StringRef source) {
    if (source.starts_with(formatPrefix)) {
      return addFormats(source);
    }
    if (const MethodText *text = findShipped(source)) {
      loaded_.parts.push_back(text->name);
      return addShipped(*text);
    }
    if (!source.ends_with(".mlir") && !llvm::sys::fs::exists(source)) {
      return unknown(source);
    }
    auto buffer = llvm::MemoryBuffer::getFile(source, /*IsText=*/true);
    if (std::error_code code = buffer.getError()) {
      return error(source) << "cannot read the method file: " << code.message();
    }
    FailureOr<OwningOpRef<ModuleOp>> module =
        parseMethodText(context_, (*buffer)->getBuffer(), source);
    return failed(module) ? failure() : addFile(**module, source);
  }

  /// Which methods of a file are meant: those of its compose op, or its only method.
  LogicalResult addFile(ModuleOp module, StringRef path) {
    SmallVector<MethodOp> methods(module.getOps<MethodOp>());
    SmallVector<ComposeOp> compositions(module.getOps<ComposeOp>());
    if (compositions.size() > 1 || (compositions.empty() && methods.size() != 1)) {
      return error(path) << "expected one kvcache.method or one kvcache.compose, got "
                         << methods.size() << " methods and " << compositions.size()
                         << " compositions";
    }
    if (compositions.empty()) {
      loaded_.parts.push_back(methods.front().getSymName().str());
      return moveMethods(module, path);
    }
    SmallVector<std::string> names;
    for (auto name : compositions.front().getMethods().getAsRange<FlatSymbolRefAttr>()) {
      names.push_back(name.getValue().str());
    }
    if (failed(moveMethods(module, path))) {
      return failure();
    }
    for (const std::string &name : names) {
      if (failed(addByName(name))) {
        return failure();
      }
      loaded_.parts.push_back(name);
    }
    return success();
  }

  /// Follows the `method` parameters of a part, and those of the methods they name.
  LogicalResult addBases(std::string name, int depth) {
    auto method = loaded_.module->lookupSymbol<MethodOp>(name);
    if (depth > 8) {
      return method.emitError() << "method '" << name << "' is its own base";
    }
    for (ParamOp param : method.getOps<ParamOp>()) {
      if (!param.getIsMethod()) {
        continue;
      }
      auto chosen = overrides_.find(param.getSymName().str());
      std::string base = chosen != overrides_.end() && depth == 0
                             ? chosen->second
                             : cast<StringAttr>(param.getValue()).str();
      if (failed(addByName(base))) {
        return failure();
      }
      if (!llvm::is_contained(loaded_.bases, base)) {
        loaded_.bases.push_back(base);
      }
      if (failed(addBases(base, depth + 1))) {
        return failure();
      }
    }
    return success();
  }

  MLIRContext &context_;
  const std::map<std::string, std::string> &overrides_;
  LoadedMethods loaded_;
};

} // namespace

std::vector<std::string> shippedMethodNames() {
  std::vector<std::string> names;
  for (const MethodText &text : shipped()) {
    names.push_back(text.name);
  }
  return names;
}

StringRef shippedMethodText(StringRef name) {
  const MethodText *text = findShipped(name);
  return text ? StringRef(text->text) : StringRef();
}

FailureOr<LoadedMethods> loadMethods(MLIRContext &context, StringRef source,
                                     const std::map<std::string, std::string> &overrides) {
  context.getOrLoadDialect<KVCacheDialect>();
  return MethodLoader(context, overrides).load(source);
}

} // namespace mlir::kvcache
