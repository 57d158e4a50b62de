// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Aliases must stand in the buffer that uses them: the prelude comes before the text, on its first
// line, and every column of that line is moved back by the prelude's length.

#include "frontends/MethodParser.h"

#include "frontends/MethodTexts.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

#include <set>
#include <vector>

namespace mlir::kvcache {

namespace {

/// "!q" of "!q = !kvcache.tensor<..>"; empty for another line.
StringRef aliasOf(StringRef line) {
  return line.starts_with("!") ? line.split('=').first.rtrim() : "";
}

/// Where `location` of the parsed buffer is in the file.
Location inFile(Location location, unsigned prelude) {
  auto place = dyn_cast<FileLineColLoc>(location);
  if (!place || place.getLine() != 1 || place.getColumn() <= prelude) {
    return location;
  }
  return FileLineColLoc::get(place.getFilename(), 1, place.getColumn() - prelude);
}

/// What is said while it lives, to be said again with other locations.
class HeldDiagnostics {
public:
  explicit HeldDiagnostics(MLIRContext &context)
      : handler_(&context, [this](Diagnostic &diagnostic) {
          held_.push_back(std::move(diagnostic));
          return success();
        }) {}

  std::vector<Diagnostic> take() { return std::move(held_); }

private:
  std::vector<Diagnostic> held_;
  ScopedDiagnosticHandler handler_;
};

void emitInFile(MLIRContext &context, Diagnostic &held, unsigned prelude) {
  InFlightDiagnostic said =
      context.getDiagEngine().emit(inFile(held.getLocation(), prelude), held.getSeverity());
  said << held.str();
  for (Diagnostic &note : held.getNotes()) {
    said.attachNote(inFile(note.getLocation(), prelude)) << note.str();
  }
}

void moveLocations(Operation *root, unsigned prelude) {
  root->walk([&](Operation *op) {
    op->setLoc(inFile(op->getLoc(), prelude));
    for (Region &region : op->getRegions()) {
      for (BlockArgument argument : region.getArguments()) {
        argument.setLoc(inFile(argument.getLoc(), prelude));
      }
    }
  });
}

} // namespace

std::string preludeFor(StringRef text) {
  SmallVector<StringRef> lines, aliases;
  text.split(lines, '\n');
  std::set<StringRef> defined;
  for (StringRef line : lines) {
    defined.insert(aliasOf(line));
  }
  StringRef(methodPreludeText).split(aliases, '\n', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
  std::string prelude;
  for (StringRef line : aliases) {
    prelude += defined.count(aliasOf(line)) > 0 ? "" : line.str() + " ";
  }
  return prelude;
}

FailureOr<OwningOpRef<ModuleOp>> parseMethodText(MLIRContext &context, StringRef text,
                                                 StringRef path) {
  std::string prelude = preludeFor(text);
  unsigned length = static_cast<unsigned>(prelude.size());
  OwningOpRef<ModuleOp> module;
  std::vector<Diagnostic> diagnostics;
  {
    HeldDiagnostics held(context);
    module = parseSourceString<ModuleOp>(prelude + text.str(), ParserConfig(&context), path);
    diagnostics = held.take();
  }
  for (Diagnostic &diagnostic : diagnostics) {
    emitInFile(context, diagnostic, length);
  }
  if (!module) {
    return failure();
  }
  moveLocations(*module, length);
  return module;
}

} // namespace mlir::kvcache
