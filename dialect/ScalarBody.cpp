// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parses the three spellings of scalar functions and builds their regions from arith and math ops.

#include "dialect/ScalarBody.h"

#include "dialect/Axes.h"
#include "dialect/MethodOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

#include <limits>

namespace mlir::kvcache {
namespace {

/// Recursive descent over the grammar in the header; emits ops as it goes. On error `message_` is
/// set.
class ExpressionBuilder {
public:
  ExpressionBuilder(OpBuilder &builder, Location loc, StringRef text)
      : b_(builder), loc_(loc), text_(text) {}

  void bind(StringRef name, Value value) { names_[name] = value; }
  const std::string &message() const { return message_; }

  /// The values of the whole text, converted to `types`; empty on error.
  SmallVector<Value> build(ArrayRef<Type> types) {
    SmallVector<Value> results;
    do {
      StringRef local = takeLocal();
      Value value = parseOr(0);
      if (value && local.empty() && results.size() < types.size()) {
        value = convert(value, types[results.size()]);
      }
      if (!value) {
        return {};
      }
      if (local.empty()) {
        results.push_back(value);
      } else if (!names_.try_emplace(local, value).second) {
        fail("'" + local + "' has a value already");
        return {};
      }
    } while (take(";"));
    skipSpace();
    if (pos_ != text_.size()) {
      fail("expected the end of the expression");
    } else if (results.size() != types.size()) {
      fail("expected " + Twine(types.size()) + " results, got " + Twine(results.size()));
    }
    return message_.empty() ? results : SmallVector<Value>();
  }

private:
  /// `name =` at the start of a statement; empty, and nothing taken, when there is none.
  StringRef takeLocal() {
    skipSpace();
    size_t start = pos_, end = endOfName();
    StringRef name = text_.slice(start, end);
    pos_ = end;
    skipSpace();
    bool named = !name.empty() && !llvm::isDigit(name.front()) && take("=") &&
                 (pos_ == text_.size() || text_[pos_] != '=');
    pos_ = named ? pos_ : start;
    return named ? name : StringRef();
  }
  size_t endOfName() const {
    size_t end = pos_;
    while (end < text_.size() && (llvm::isAlnum(text_[end]) || text_[end] == '_')) {
      ++end;
    }
    return end;
  }
  Value fail(const Twine &what) {
    if (message_.empty()) {
      message_ = (what + " at position " + Twine(pos_) + " of \"" + text_ + "\"").str();
    }
    return {};
  }
  void skipSpace() {
    while (pos_ < text_.size() && llvm::isSpace(text_[pos_])) {
      ++pos_;
    }
  }
  bool take(StringRef token) {
    skipSpace();
    if (!text_.substr(pos_).starts_with(token)) {
      return false;
    }
    pos_ += token.size();
    return true;
  }
  Value floatOf(Value value) {
    if (!value || isa<Float32Type>(value.getType())) {
      return value;
    }
    Type f32 = b_.getF32Type();
    Type type = value.getType();
    if (type.isInteger(1)) {
      return fail("expected a number, got a condition");
    }
    if (type.isF64()) {
      return arith::TruncFOp::create(b_, loc_, f32, value);
    }
    if (type.isIndex()) {
      value = arith::IndexCastOp::create(b_, loc_, b_.getI64Type(), value);
    }
    return arith::SIToFPOp::create(b_, loc_, f32, value);
  }
  Value conditionOf(Value value) {
    if (value && !value.getType().isInteger(1)) {
      return fail("expected a condition, got a number");
    }
    return value;
  }
  Value convert(Value value, Type type) {
    if (type.isInteger(1)) {
      return conditionOf(value);
    }
    value = floatOf(value);
    if (!value || value.getType() == type) {
      return value;
    }
    return arith::FPToSIOp::create(b_, loc_, type, value);
  }
  Value constant(double number) {
    return arith::ConstantOp::create(b_, loc_, b_.getF32FloatAttr(static_cast<float>(number)));
  }

  Value parseOr(int depth) {
    if (depth > 64) {
      return fail("expected at most 64 nested parentheses");
    }
    Value left = parseAnd(depth);
    while (left && take("|")) {
      Value a = conditionOf(left), c = conditionOf(parseAnd(depth));
      left = a && c ? Value(arith::OrIOp::create(b_, loc_, a, c)) : Value();
    }
    return left;
  }
  Value parseAnd(int depth) {
    Value left = parseCompare(depth);
    while (left && take("&")) {
      Value a = conditionOf(left), c = conditionOf(parseCompare(depth));
      left = a && c ? Value(arith::AndIOp::create(b_, loc_, a, c)) : Value();
    }
    return left;
  }
  Value parseCompare(int depth) {
    Value left = parseSum(depth);
    // The longer spellings first: "<=" starts with "<".
    static constexpr std::pair<const char *, arith::CmpFPredicate> comparisons[] = {
        {"<=", arith::CmpFPredicate::OLE}, {">=", arith::CmpFPredicate::OGE},
        {"==", arith::CmpFPredicate::OEQ}, {"!=", arith::CmpFPredicate::UNE},
        {"<", arith::CmpFPredicate::OLT},  {">", arith::CmpFPredicate::OGT}};
    for (auto [token, predicate] : comparisons) {
      if (left && take(token)) {
        Value a = floatOf(left), c = floatOf(parseSum(depth));
        return a && c ? Value(arith::CmpFOp::create(b_, loc_, predicate, a, c)) : Value();
      }
    }
    return left;
  }
  Value parseSum(int depth) {
    Value left = parseProduct(depth);
    while (left) {
      bool plus = take("+");
      if (!plus && !take("-")) {
        break;
      }
      Value a = floatOf(left), c = floatOf(parseProduct(depth));
      if (!a || !c) {
        return {};
      }
      left = plus ? Value(arith::AddFOp::create(b_, loc_, a, c))
                  : Value(arith::SubFOp::create(b_, loc_, a, c));
    }
    return left;
  }
  Value parseProduct(int depth) {
    Value left = parseUnary(depth);
    while (left) {
      bool times = take("*");
      if (!times && !take("/")) {
        break;
      }
      Value a = floatOf(left), c = floatOf(parseUnary(depth));
      if (!a || !c) {
        return {};
      }
      left = times ? Value(arith::MulFOp::create(b_, loc_, a, c))
                   : Value(arith::DivFOp::create(b_, loc_, a, c));
    }
    return left;
  }
  Value parseUnary(int depth) {
    if (depth > 64) {
      return fail("expected at most 64 nested signs");
    }
    skipSpace();
    if (take("-")) {
      Value value = floatOf(parseUnary(depth + 1));
      return value ? Value(arith::NegFOp::create(b_, loc_, value)) : Value();
    }
    if (take("(")) {
      Value value = parseOr(depth + 1);
      return value && !take(")") ? fail("expected ')'") : value;
    }
    if (pos_ < text_.size() && (llvm::isDigit(text_[pos_]) || text_[pos_] == '.')) {
      return parseNumber();
    }
    return parseName(depth);
  }
  Value parseNumber() {
    size_t end = pos_;
    auto isPart = [&](char c) {
      bool sign =
          (c == '-' || c == '+') && end > pos_ && (text_[end - 1] == 'e' || text_[end - 1] == 'E');
      return llvm::isDigit(c) || c == '.' || c == 'e' || c == 'E' || sign;
    };
    while (end < text_.size() && isPart(text_[end])) {
      ++end;
    }
    double number;
    if (text_.slice(pos_, end).getAsDouble(number)) {
      return fail("expected a number");
    }
    pos_ = end;
    return constant(number);
  }
  Value parseName(int depth) {
    size_t end = endOfName();
    StringRef name = text_.slice(pos_, end);
    if (name.empty()) {
      return fail("expected a number, a name or '('");
    }
    if (Value value = names_.lookup(name)) {
      pos_ = end;
      return value;
    }
    if (name == "inf") {
      pos_ = end;
      return constant(std::numeric_limits<double>::infinity());
    }
    size_t start = pos_;
    pos_ = end;
    if (!take("(")) {
      pos_ = start;
      return fail("unknown name '" + name + "'");
    }
    SmallVector<Value> arguments;
    do {
      Value argument = parseOr(depth + 1);
      if (!argument) {
        return {};
      }
      arguments.push_back(argument);
    } while (take(","));
    return take(")") ? call(name, arguments) : fail("expected ')'");
  }
  Value call(StringRef name, ArrayRef<Value> arguments) {
    if (name == "select" && arguments.size() == 3) {
      Value condition = conditionOf(arguments[0]), a = floatOf(arguments[1]),
            c = floatOf(arguments[2]);
      return condition && a && c ? Value(arith::SelectOp::create(b_, loc_, condition, a, c))
                                 : Value();
    }
    bool two = name == "min" || name == "max";
    static constexpr std::pair<const char *, const char *> unary[] = {
        {"exp", "math.exp"},         {"log", "math.log"},     {"sqrt", "math.sqrt"},
        {"abs", "math.absf"},        {"floor", "math.floor"}, {"ceil", "math.ceil"},
        {"round", "math.roundeven"}, {"tanh", "math.tanh"},   {"cos", "math.cos"},
        {"sin", "math.sin"}};
    if (two && arguments.size() == 2) {
      Value a = floatOf(arguments[0]), c = floatOf(arguments[1]);
      if (!a || !c) {
        return {};
      }
      return name == "min" ? Value(arith::MinimumFOp::create(b_, loc_, a, c))
                           : Value(arith::MaximumFOp::create(b_, loc_, a, c));
    }
    for (auto [function, op] : unary) {
      if (name == function && arguments.size() == 1) {
        Value a = floatOf(arguments[0]);
        if (!a) {
          return {};
        }
        OperationState state(loc_, op, ValueRange{a}, TypeRange{a.getType()});
        return b_.create(state)->getResult(0);
      }
    }
    return fail("no function '" + name + "' of " + Twine(arguments.size()) + " arguments");
  }

  OpBuilder &b_;
  Location loc_;
  StringRef text_;
  size_t pos_ = 0;
  llvm::StringMap<Value> names_;
  std::string message_;
};

/// What stands between the op's name and its region.
struct ScalarText {
  std::string expression, function;
  SMLoc loc;
  SmallVector<StringRef> names;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
};

ParseResult parseOperands(OpAsmParser &parser, ScalarText &text) {
  text.loc = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalString(&text.expression))) {
    return parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, [&]() -> ParseResult {
      return failure(parser.parseKeyword(&text.names.emplace_back()) || parser.parseEqual() ||
                     parser.parseOperand(text.operands.emplace_back()));
    });
  }
  if (parser.parseOperandList(text.operands)) {
    return failure();
  }
  StringRef function;
  if (succeeded(parser.parseOptionalKeyword("with"))) {
    text.loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&function)) {
      return failure();
    }
    text.function = function.str();
  }
  return success();
}

/// Builds the body of `with function` or of an expression.
ParseResult expand(OpAsmParser &parser, ScalarText &text, Block &block, ArrayRef<Type> yielded) {
  Location loc = parser.getEncodedSourceLoc(text.loc);
  OpBuilder builder(parser.getContext());
  builder.setInsertionPointToEnd(&block);
  SmallVector<Value> values;
  if (!text.function.empty()) {
    if (yielded.size() != 1) {
      return parser.emitError(text.loc, "expected one result, got ") << yielded.size();
    }
    if (!StringRef(text.function).starts_with("arith.") &&
        !StringRef(text.function).starts_with("math.")) {
      return parser.emitError(text.loc, "expected an op of arith or math after 'with', got '")
             << text.function << "'";
    }
    if (!RegisteredOperationName::lookup(text.function, parser.getContext())) {
      return parser.emitError(text.loc, "unknown op '") << text.function << "'";
    }
    OperationState state(loc, text.function, block.getArguments(), yielded);
    values.push_back(builder.create(state)->getResult(0));
  } else {
    ExpressionBuilder expression(builder, loc, text.expression);
    for (auto [name, argument] : llvm::zip_equal(text.names, block.getArguments())) {
      expression.bind(name, argument);
    }
    values = expression.build(yielded);
    if (values.empty()) {
      return parser.emitError(text.loc, expression.message());
    }
  }
  YieldOp::create(builder, loc, values);
  return success();
}

} // namespace

ParseResult parseScalarClause(OpAsmParser &parser, ScalarClause &clause) {
  clause.loc = parser.getCurrentLocation();
  bool named = succeeded(parser.parseOptionalString(&clause.expression));
  if (failed(parser.parseOptionalLParen())) {
    return success();
  }
  auto parseOne = [&]() -> ParseResult {
    if (named && (parser.parseKeyword(&clause.names.emplace_back()) || parser.parseEqual())) {
      return failure();
    }
    return parser.parseOperand(clause.operands.emplace_back());
  };
  return failure(parser.parseCommaSeparatedList(parseOne) || parser.parseRParen());
}

ParseResult parseScalarRegion(OpAsmParser &parser, ScalarClause &clause, Region &region,
                              ArrayRef<ScalarName> own, ArrayRef<Type> inputs, Type yielded) {
  if (clause.expression.empty()) {
    return parser.parseRegion(region);
  }
  Location loc = parser.getEncodedSourceLoc(clause.loc);
  Block &block = region.emplaceBlock();
  OpBuilder builder(parser.getContext());
  builder.setInsertionPointToEnd(&block);
  ExpressionBuilder expression(builder, loc, clause.expression);
  for (auto [name, type] : own) {
    expression.bind(name, block.addArgument(type, loc));
  }
  for (auto [name, type] : llvm::zip_equal(clause.names, inputs)) {
    expression.bind(name, block.addArgument(scalarTypeOf(type), loc));
  }
  SmallVector<Value> values = expression.build(yielded);
  if (values.empty()) {
    return parser.emitError(clause.loc, expression.message());
  }
  YieldOp::create(builder, loc, values);
  return success();
}

FailureOr<ArrayRef<Type>>
parseAttentionOperands(OpAsmParser &parser, OperationState &result,
                       ArrayRef<OpAsmParser::UnresolvedOperand> queryAndCache,
                       ArrayRef<OpAsmParser::UnresolvedOperand> optional,
                       const ScalarClause &clause) {
  SmallVector<OpAsmParser::UnresolvedOperand> operands(queryAndCache);
  llvm::append_range(operands, optional);
  llvm::append_range(operands, clause.operands);
  FunctionType type;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(type) ||
      parser.resolveOperands(operands, type.getInputs(), loc, result.operands)) {
    return failure();
  }
  result.addTypes(type.getResults());
  auto inputs = static_cast<int32_t>(clause.operands.size());
  result.addAttribute("operandSegmentSizes",
                      parser.getBuilder().getDenseI32ArrayAttr(
                          {1, 1, static_cast<int32_t>(optional.size()), inputs}));
  return type.getInputs().take_back(inputs);
}

void printScalarInputs(OpAsmPrinter &printer, OperandRange inputs) {
  if (!inputs.empty()) {
    printer << " (";
    printer.printOperands(inputs);
    printer << ')';
  }
}

LogicalResult verifyScalarRegion(Operation *op, Block &body, ArrayRef<Type> own, TypeRange inputs,
                                 Type yielded) {
  SmallVector<Type> expected(own);
  for (Type input : inputs) {
    expected.push_back(scalarTypeOf(input));
  }
  if (body.getArgumentTypes() != TypeRange(expected)) {
    return op->emitOpError() << "expected block arguments (" << TypeRange(expected) << "), got ("
                             << TypeRange(body.getArgumentTypes()) << ")";
  }
  auto yield = dyn_cast<YieldOp>(body.back());
  if (!yield || yield.getValues().getTypes() != TypeRange(yielded)) {
    return op->emitOpError() << "expected the region to yield " << yielded;
  }
  return success();
}

ParseResult parseScalarOp(OpAsmParser &parser, OperationState &result, StringAttr *along) {
  ScalarText text;
  FunctionType type;
  StringRef axis;
  if (parseOperands(parser, text)) {
    return failure();
  }
  if (along) {
    if (parser.parseKeyword("along") || parser.parseKeyword(&axis)) {
      return failure();
    }
    *along = parser.getBuilder().getStringAttr(axis);
  }
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(type) ||
      parser.resolveOperands(text.operands, type.getInputs(), text.loc, result.operands)) {
    return failure();
  }
  result.addTypes(type.getResults());
  Region *region = result.addRegion();
  if (text.expression.empty() && text.function.empty()) {
    return parser.parseRegion(*region);
  }
  auto &block = region->emplaceBlock();
  for (Type input : type.getInputs()) {
    block.addArgument(scalarTypeOf(input), parser.getEncodedSourceLoc(text.loc));
  }
  SmallVector<Type> yielded;
  for (Type output : type.getResults()) {
    yielded.push_back(along ? parser.getBuilder().getI1Type() : scalarTypeOf(output));
  }
  return expand(parser, text, block, yielded);
}

void printScalarOp(OpAsmPrinter &printer, Operation *op, StringAttr along) {
  printer << ' ';
  printer.printOperands(op->getOperands());
  if (along) {
    printer << " along " << along.getValue();
  }
  printer.printOptionalAttrDict(op->getAttrs(), {"axis"});
  printer << " : ";
  printer.printFunctionalType(op);
  printer << ' ';
  printer.printRegion(op->getRegion(0));
}

LogicalResult verifyScalarBody(Operation *op, Block &body, ArrayRef<Type> yielded) {
  if (body.getNumArguments() != op->getNumOperands()) { // C2
    return op->emitOpError() << "expected one block argument for each of " << op->getNumOperands()
                             << " inputs, got " << body.getNumArguments();
  }
  for (auto [index, argument, input] :
       llvm::enumerate(body.getArgumentTypes(), op->getOperandTypes())) { // C2
    if (argument != scalarTypeOf(input)) {
      return op->emitOpError() << "expected block argument " << index << " of type "
                               << scalarTypeOf(input) << ", got " << argument;
    }
  }
  auto yield = dyn_cast<YieldOp>(body.back());                   // C3
  if (yield && llvm::is_contained(yield.getValues(), Value())) { // a reducer's candidate
    return op->emitOpError() << "expected the region to yield values";
  }
  if (!yield || yield.getValues().getTypes() != TypeRange(yielded)) {
    InFlightDiagnostic error = op->emitOpError()
                               << "expected the region to yield (" << TypeRange(yielded) << ")";
    if (yield) {
      error << ", got (" << TypeRange(yield.getValues().getTypes()) << ")";
    }
    return error;
  }
  return success();
}

} // namespace mlir::kvcache
