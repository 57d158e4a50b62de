// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The prelude stands on the first line of a document, as when a method is compiled, so that only
// columns of that line differ.

#include "tools/lsp/PreludeRewriter.h"

#include "frontends/MethodParser.h"
#include "tools/lsp/DialectReference.h"

#include "llvm/ADT/StringExtras.h"

#include <algorithm>

namespace kvcache::tools {

using llvm::json::Array;
using llvm::json::Object;
using llvm::json::Value;
using mlir::StringRef;

namespace {

std::string idText(const Value *id) {
  std::string text;
  if (id) {
    llvm::raw_string_ostream(text) << *id;
  }
  return text;
}

/// The document that the parameters of a message are about; empty when none.
std::string uriOf(const Object &parameters) {
  const Object *document = parameters.getObject("textDocument");
  auto uri = document ? document->getString("uri") : parameters.getString("uri");
  return uri ? uri->str() : "";
}

/// Puts the description behind the first line of a hover, which names the op.
void describeHover(Value &result) {
  Object *hover = result.getAsObject();
  Object *contents = hover ? hover->getObject("contents") : nullptr;
  auto value = contents ? contents->getString("value") : std::nullopt;
  if (!value || !value->starts_with("\"")) {
    return;
  }
  auto [first, rest] = value->split('\n');
  std::string description = describeOp(first.drop_front().split('"').first);
  if (!description.empty()) {
    (*contents)["value"] = first.str() + "\n\n" + description + rest.str();
  }
}

} // namespace

std::string describeOp(StringRef op) {
  StringRef reference(dialectReferenceText);
  std::string heading = "\n### `" + op.str() + "`\n";
  size_t start = reference.find(heading);
  if (start == StringRef::npos) {
    return "";
  }
  StringRef section = reference.drop_front(start + heading.size());
  return section.take_front(std::min(section.find("\n##"), section.size())).trim().str() + "\n";
}

void PreludeRewriter::movePositions(Value &value, int64_t columns) {
  if (Array *array = value.getAsArray()) {
    for (Value &element : *array) {
      movePositions(element, columns);
    }
    return;
  }
  Object *object = value.getAsObject();
  if (!object) {
    return;
  }
  auto line = object->getInteger("line"), column = object->getInteger("character");
  if (line && column) {
    if (*line == 0) {
      (*object)["character"] = std::max<int64_t>(0, *column + columns);
    }
    return;
  }
  for (auto &member : *object) {
    movePositions(member.second, columns);
  }
}

int64_t PreludeRewriter::columnsOf(const std::string &uri) const {
  auto found = columns_.find(uri);
  return found == columns_.end() ? 0 : found->second;
}

void PreludeRewriter::rewriteText(const std::string &uri, Object &holder) {
  if (auto text = holder.getString("text")) {
    std::string prelude = mlir::kvcache::preludeFor(*text);
    columns_[uri] = static_cast<int64_t>(prelude.size());
    holder["text"] = prelude + text->str();
  }
}

void PreludeRewriter::toServer(Value &message) {
  std::lock_guard<std::mutex> lock(mutex_);
  Object *object = message.getAsObject();
  Object *parameters = object ? object->getObject("params") : nullptr;
  if (!parameters) {
    return;
  }
  std::string uri = uriOf(*parameters);
  std::string method = object->getString("method").value_or("").str();
  if (method == "textDocument/didOpen") {
    if (Object *document = parameters->getObject("textDocument")) {
      rewriteText(uri, *document);
    }
    return;
  }
  if (method == "textDocument/didClose") {
    columns_.erase(uri);
    return;
  }
  if (const Value *id = object->get("id")) {
    requests_[idText(id)] = uri;
  }
  if (Array *changes = parameters->getArray("contentChanges")) {
    // The server asks for whole texts.
    for (Value &change : *changes) {
      if (Object *one = change.getAsObject()) {
        rewriteText(uri, *one);
      }
    }
  } else {
    movePositions((*object)["params"], columnsOf(uri));
  }
}

void PreludeRewriter::toClient(Value &message) {
  std::lock_guard<std::mutex> lock(mutex_);
  Object *object = message.getAsObject();
  if (!object) {
    return;
  }
  if (Object *parameters = object->getObject("params")) {
    movePositions((*object)["params"], -columnsOf(uriOf(*parameters)));
    return;
  }
  auto request = requests_.find(idText(object->get("id")));
  if (request == requests_.end()) {
    return;
  }
  if (Value *result = object->get("result")) {
    movePositions(*result, -columnsOf(request->second));
    describeHover(*result);
  }
  requests_.erase(request);
}

} // namespace kvcache::tools
