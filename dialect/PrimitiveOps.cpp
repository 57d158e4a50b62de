// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the computing primitives. Markers C1.. refer to the descriptions in PrimitiveOps.td.

#include "dialect/PrimitiveOps.h"

#include "dialect/Axes.h"
#include "dialect/Granularity.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/ScalarBody.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/PrimitiveOps.cpp.inc"

namespace mlir::kvcache {

void registerPrimitiveOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/PrimitiveOps.cpp.inc"
      >(dialect);
}

// ---- map ----

ParseResult MapOp::parse(OpAsmParser &parser, OperationState &result) {
  return parseScalarOp(parser, result, nullptr);
}
void MapOp::print(OpAsmPrinter &printer) { printScalarOp(printer, *this, nullptr); }

/// The axes of an input of a map. Beside query heads of the whole group, `group:Gs` is G of them or
/// repeated for each.
static SmallVector<AxisAttr> mappedAxes(Type input, bool wholeGroup) {
  SmallVector<AxisAttr> axes(axesOf(input));
  llvm::erase_if(axes, [&](AxisAttr axis) { return wholeGroup && isRowGroup(axis); });
  return axes;
}

LogicalResult MapOp::verify() {
  SmallVector<AxisAttr> united;
  std::string clash;
  bool wholeGroup = llvm::any_of(getInputs().getTypes(), [](Type input) {
    AxisAttr group = findAxis(axesOf(input), "group");
    return group && !isRowGroup(group);
  });
  for (Type input : getInputs().getTypes()) { // C1
    if (!unite(united, mappedAxes(input, wholeGroup), clash)) {
      return emitOpError() << "inputs disagree on the extent of axis '" << clash << "'";
    }
  }
  SmallVector<Type> yielded;
  for (auto [index, output] : llvm::enumerate(getOutputs())) { // C1
    if (failed(expectAxes(*this, "result " + Twine(index), united, axesOf(output),
                          /*ordered=*/false))) {
      return failure();
    }
    yielded.push_back(scalarTypeOf(output.getType()));
  }
  return verifyScalarBody(*this, getScalarBody(), yielded); // C2, C3
}

// ---- reduce ----

static constexpr StringLiteral reductions[] = {"sum",    "mean",  "max",     "min",
                                               "argmax", "count", "quantile"};

LogicalResult ReduceOp::verify() {
  ArrayRef<AxisAttr> input = axesOf(getInput());
  if (!llvm::is_contained(reductions, getFn())) { // C1
    return emitOpError() << "expected sum, mean, max, min, argmax, count or quantile, got '"
                         << getFn() << "'";
  }
  for (StringAttr name : getAxes().getAsRange<StringAttr>()) { // C2
    if (failed(expectAxis(*this, "input", input, name))) {
      return failure();
    }
  }
  SmallVector<AxisAttr> left = without(input, getAxes());
  keepRowGroup(left, input, axesOf(getOutput()));
  if (failed(expectAxes(*this, "result", left, axesOf(getOutput())))) { // C3
    return failure();
  }
  bool position = getFn() == "argmax", quantile = getFn() == "quantile";
  if ((position || quantile) && getAxes().size() != 1) { // C4
    return emitOpError() << getFn() << ": expected one axis, got " << getAxes().size();
  }
  if (quantile != static_cast<bool>(getAt())) { // C4
    return emitOpError() << (quantile ? "quantile: expected 'at %q'"
                                      : "expected no 'at' except for quantile");
  }
  auto index = dyn_cast<IndexSetType>(getOutput().getType());
  if (position != static_cast<bool>(index)) { // C5
    return emitOpError() << getFn() << ": expected " << (position ? "an index set" : "a tensor")
                         << " as result, got " << getOutput().getType();
  }
  if (index && index.getDomain() != cast<StringAttr>(getAxes()[0]).getValue()) { // C5
    return emitOpError() << "argmax: expected positions of '"
                         << cast<StringAttr>(getAxes()[0]).getValue() << "', got of '"
                         << index.getDomain() << "'";
  }
  return success();
}

// ---- contract ----

LogicalResult ContractOp::verify() {
  ArrayRef<AxisAttr> lhs = axesOf(getLhs()), rhs = axesOf(getRhs());
  for (StringAttr name : getAxes().getAsRange<StringAttr>()) { // C1
    if (failed(expectAxis(*this, "left operand", lhs, name)) ||
        failed(expectAxis(*this, "right operand", rhs, name))) {
      return failure();
    }
  }
  SmallVector<AxisAttr> united(lhs);
  std::string clash;
  if (!unite(united, rhs, clash)) { // C2
    return emitOpError() << "operands disagree on the extent of axis '" << clash << "'";
  }
  return expectAxes(*this, "result", without(united, getAxes()), axesOf(getOutput())); // C3
}

// ---- pool, iota, extent ----

StringRef PoolOp::getFunction() {
  auto name = dyn_cast<StringAttr>(getFn());
  return name ? name.getValue() : StringRef();
}

LogicalResult PoolOp::verify() {
  if (!isa<SymAttr>(getFn()) && getFunction() != "avg" && getFunction() != "max") { // C1
    return emitOpError() << "expected avg, max or a symbol, got " << getFn();
  }
  if (failed(expectAxis(*this, "input", axesOf(getInput()), getAxis()))) { // C2
    return failure();
  }
  return expectAxes(*this, "result", axesOf(getInput()), axesOf(getOutput())); // C3
}

// ---- sort, scan, concat, blocks ----

LogicalResult SortOp::verify() {
  if (getOrder() != "descending" && getOrder() != "ascending") { // C1
    return emitOpError() << "expected descending or ascending, got '" << getOrder() << "'";
  }
  if (failed(expectAxis(*this, "input", axesOf(getInput()), getAxis()))) { // C2
    return failure();
  }
  return expectAxes(*this, "result", axesOf(getInput()), axesOf(getOutput())); // C3
}

LogicalResult ScanOp::verify() {
  if (getFn() != "sum" && getFn() != "max") { // C1
    return emitOpError() << "expected sum or max, got '" << getFn() << "'";
  }
  if (failed(expectAxis(*this, "input", axesOf(getInput()), getAxis()))) { // C2
    return failure();
  }
  return expectAxes(*this, "result", axesOf(getInput()), axesOf(getOutput())); // C3
}

LogicalResult ConcatOp::verify() {
  StringRef kind = StringRef(getAxis()).split('.').first;
  AxisAttr lhs = findAxisOfKind(axesOf(getLhs()), kind),
           rhs = findAxisOfKind(axesOf(getRhs()), kind);
  if (!lhs || !rhs) { // C1
    return emitOpError() << "expected two operands with an axis of kind '" << kind << "', got "
                         << str(axesOf(getLhs())) << " and " << str(axesOf(getRhs()));
  }
  SmallVector<AxisAttr> others = without(axesOf(getLhs()), {StringRef(lhs.getName())});
  if (failed(expectAxes(*this, "right operand", others,
                        without(axesOf(getRhs()), {StringRef(rhs.getName())})))) { // C2
    return failure();
  }
  FailureOr<AxisAttr> axis = expectAxis(*this, "result", axesOf(getOutput()), getAxis()); // C3
  if (failed(axis)) {
    return failure();
  }
  return expectAxes(*this, "result", replaced(axesOf(getLhs()), lhs.getName(), {*axis}),
                    axesOf(getOutput())); // C3
}

LogicalResult BlocksOp::verify() {
  if (getFn() != "sum" && getFn() != "mean" && getFn() != "max" && getFn() != "min") { // C1
    return emitOpError() << "expected sum, mean, max or min, got '" << getFn() << "'";
  }
  FailureOr<AxisAttr> axis = expectAxis(*this, "input", axesOf(getInput()), getAxis()); // C2
  if (failed(axis)) {
    return failure();
  }
  ArrayRef<AxisAttr> input = axesOf(getInput()), output = axesOf(getOutput());
  unsigned place = *findAxisIndex(input, getAxis());
  if (place >= output.size() || findAxis(input, output[place].getName())) { // C3
    return emitOpError() << "expected a result with another axis in place of '" << axis->getName()
                         << "', got " << str(output);
  }
  return expectAxes(*this, "result", replaced(input, axis->getName(), {output[place]}),
                    output); // C3
}

/// The axes in which `iota` and `extent` look: of a cache, those of its columns as well.
static SmallVector<AxisAttr> allAxes(Type type) {
  SmallVector<AxisAttr> axes(axesOf(type));
  if (auto cache = dyn_cast<CacheType>(type)) {
    for (ColumnAttr column : cache.getColumns()) {
      axes.append(column.getAxes().begin(), column.getAxes().end());
    }
  }
  return axes;
}

LogicalResult IotaOp::verify() {
  FailureOr<AxisAttr> axis =
      expectAxis(*this, "operand", allAxes(getOf().getType()), getAxis());               // C1
  if (failed(axis) || failed(expectAxes(*this, "result", *axis, axesOf(getOutput())))) { // C2
    return failure();
  }
  Type element = cast<AxisTensorType>(getOutput().getType()).getElementType();
  if (!element || !element.isInteger(32)) { // C2
    return emitOpError() << "expected a result of i32, got " << getOutput().getType();
  }
  return success();
}

LogicalResult ExtentOp::verify() {
  return failure(failed(expectAxis(*this, "operand", allAxes(getOf().getType()), getAxis()))); // C1
}

// ---- eigh ----

LogicalResult EighOp::verify() {
  ArrayRef<AxisAttr> matrix = axesOf(getMatrix());
  if (matrix.size() < 2 || !extentsAgree(matrix.back(), matrix[matrix.size() - 2])) { // C1
    return emitOpError() << "expected a square matrix in the last two axes, got " << str(matrix);
  }
  ArrayRef<AxisAttr> values = axesOf(getEigenvalues());
  ArrayRef<AxisAttr> batch = matrix.drop_back(2);
  if (values.empty() || values.back().getKind() != "rank" ||
      !extentsAgree(values.back(), matrix.back())) { // C2
    return emitOpError() << "eigenvalues: expected a last axis of kind 'rank' and the extent of '"
                         << matrix.back().str() << "', got " << str(values);
  }
  SmallVector<AxisAttr> expected(batch);
  expected.push_back(values.back());
  if (failed(expectAxes(*this, "eigenvalues", expected, values))) { // C2
    return failure();
  }
  expected.insert(expected.end() - 1, matrix[batch.size()]);
  return expectAxes(*this, "eigenvectors", expected, axesOf(getEigenvectors())); // C3
}

} // namespace mlir::kvcache
