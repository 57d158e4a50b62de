// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parsing and printing of the shared clauses.

#include "dialect/Syntax.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

namespace mlir::kvcache {

ParseResult parseWord(OpAsmParser &parser, StringAttr &word) {
  StringRef text;
  if (parser.parseKeyword(&text)) {
    return failure();
  }
  word = parser.getBuilder().getStringAttr(text);
  return success();
}

void printWord(OpAsmPrinter &printer, Operation *, StringAttr word) { printer << word.getValue(); }

ParseResult parseAxisName(OpAsmParser &parser, StringAttr &axis) { return parseWord(parser, axis); }
void printAxisName(OpAsmPrinter &printer, Operation *op, StringAttr axis) {
  printWord(printer, op, axis);
}

ParseResult parseBracketedAxis(OpAsmParser &parser, StringAttr &axis) {
  return failure(parser.parseLSquare() || parseWord(parser, axis) || parser.parseRSquare());
}

void printBracketedAxis(OpAsmPrinter &printer, Operation *, StringAttr axis) {
  printer << '[' << axis.getValue() << ']';
}

static ParseResult parseNames(OpAsmParser &parser, AsmParser::Delimiter delimiter,
                              ArrayAttr &names) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    StringAttr name;
    if (parseWord(parser, name)) {
      return failure();
    }
    list.push_back(name);
    return success();
  };
  if (parser.parseCommaSeparatedList(delimiter, parseOne)) {
    return failure();
  }
  names = parser.getBuilder().getArrayAttr(list);
  return success();
}

static void printNames(OpAsmPrinter &printer, ArrayAttr names) {
  llvm::interleaveComma(names.getAsRange<StringAttr>(), printer.getStream(),
                        [&](StringAttr name) { printer << name.getValue(); });
}

ParseResult parseAxisNames(OpAsmParser &parser, ArrayAttr &axes) {
  return parseNames(parser, AsmParser::Delimiter::Square, axes);
}

void printAxisNames(OpAsmPrinter &printer, Operation *, ArrayAttr axes) {
  printer << '[';
  printNames(printer, axes);
  printer << ']';
}

ParseResult parsePoolFunction(OpAsmParser &parser, Attribute &function) {
  StringRef word;
  if (parser.parseKeyword(&word)) {
    return failure();
  }
  if (word == "avg" || word == "max") {
    function = parser.getBuilder().getStringAttr(word);
  } else {
    function = SymAttr::get(parser.getContext(), word);
  }
  return success();
}

void printPoolFunction(OpAsmPrinter &printer, Operation *, Attribute function) {
  if (auto name = dyn_cast<StringAttr>(function)) {
    printer << name.getValue();
  } else if (auto symbol = dyn_cast<SymAttr>(function)) {
    printer << symbol.getName();
  } else {
    printer << function;
  }
}

static FailureOr<StatAttr> parseStat(OpAsmParser &parser) {
  StringRef kind;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseKeyword(&kind)) {
    return failure();
  }
  MLIRContext *context = parser.getContext();
  if (kind == "lse") {
    return StatAttr::get(context, kind, ArrayAttr(), Attribute());
  }
  if (kind != "sum") {
    return parser.emitError(loc, "expected a statistic 'sum(p, over(..))' or 'lse', got '")
           << kind << "'";
  }
  ArrayAttr over;
  Attribute last;
  if (parser.parseLParen() || parser.parseKeyword("p") || parser.parseComma() ||
      parser.parseKeyword("over") || parseNames(parser, AsmParser::Delimiter::Paren, over)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalComma())) {
    if (parser.parseKeyword("last") || parser.parseLParen()) {
      return failure();
    }
    FailureOr<Attribute> count = parseExtent(parser, /*allowDynamic=*/false);
    if (failed(count) || parser.parseRParen()) {
      return failure();
    }
    last = *count;
  }
  if (parser.parseRParen()) {
    return failure();
  }
  return StatAttr::get(context, kind, over, last);
}

ParseResult parseStats(OpAsmParser &parser, ArrayAttr &stats) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    FailureOr<StatAttr> stat = parseStat(parser);
    if (failed(stat)) {
      return failure();
    }
    list.push_back(*stat);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne)) {
    return failure();
  }
  stats = parser.getBuilder().getArrayAttr(list);
  return success();
}

void printStats(OpAsmPrinter &printer, Operation *, ArrayAttr stats) {
  printer << '(';
  llvm::interleaveComma(stats.getAsRange<StatAttr>(), printer.getStream(), [&](StatAttr stat) {
    printer << stat.getKind();
    if (!stat.getOver()) {
      return;
    }
    printer << "(p, over(";
    printNames(printer, stat.getOver());
    printer << ')';
    if (stat.getLast()) {
      printer << ", last(";
      printExtent(printer.getStream(), stat.getLast());
      printer << ')';
    }
    printer << ')';
  });
  printer << ')';
}

ParseResult parseNamedOperands(OpAsmParser &parser, ArrayAttr &names,
                               SmallVectorImpl<OpAsmParser::UnresolvedOperand> &values) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    StringAttr name;
    if (parseWord(parser, name) || parser.parseEqual() ||
        parser.parseOperand(values.emplace_back())) {
      return failure();
    }
    list.push_back(name);
    return success();
  };
  if (parser.parseCommaSeparatedList(parseOne)) {
    return failure();
  }
  names = parser.getBuilder().getArrayAttr(list);
  return success();
}

void printNamedOperands(OpAsmPrinter &printer, Operation *, ArrayAttr names, OperandRange values) {
  llvm::interleaveComma(
      llvm::zip(names.getAsRange<StringAttr>(), values), printer.getStream(),
      [&](auto pair) { printer << std::get<0>(pair).getValue() << " = " << std::get<1>(pair); });
}

ParseResult parseCondition(OpAsmParser &parser, ConditionAttr &condition) {
  FlatSymbolRefAttr param;
  Attribute value;
  if (parser.parseLParen() || parser.parseAttribute(param) || parser.parseEqual() ||
      parser.parseAttribute(value) || parser.parseRParen()) {
    return failure();
  }
  condition = ConditionAttr::get(parser.getContext(), param, value);
  return success();
}

void printCondition(OpAsmPrinter &printer, Operation *, ConditionAttr condition) {
  printer << '(' << condition.getParam() << " = " << condition.getValue() << ')';
}

} // namespace mlir::kvcache
