// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Table of the scalar ops, one line each, and the program that runs a scalar region with it.

#include "targets/reference/Scalars.h"

#include "runtime/reference/Families.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/bit.h"

#include <cmath>

namespace mlir::kvcache::reference {

namespace {

using Args = ArrayRef<Number>;
using Error = const char *;

unsigned widthOf(Type type) { return type.isIndex() ? 64 : type.getIntOrFloatBitWidth(); }

int64_t cut(Type type, int64_t value) {
  switch (widthOf(type)) {
  case 1:
    return value & 1;
  case 8:
    return static_cast<int8_t>(value);
  case 16:
    return static_cast<int16_t>(value);
  case 32:
    return static_cast<int32_t>(value);
  default:
    return value;
  }
}

/// Operand `i` as an unsigned number of its width.
uint64_t bitsOf(Operation *op, Args args, unsigned i) {
  unsigned width = widthOf(op->getOperand(i).getType());
  uint64_t bits = static_cast<uint64_t>(args[i].integer);
  return width >= 64 ? bits : bits & ((uint64_t{1} << width) - 1);
}

template <double (*Fn)(double)>
Number unary(Operation *, Args args, Error &) {
  return Number::ofReal(Fn(args[0].real));
}

template <typename Fn>
Number integerResult(Operation *op, Fn value) {
  return Number::ofInteger(cut(op->getResult(0).getType(), static_cast<int64_t>(value)));
}

/// Signed quotient rounded to zero (0), down (-1) or up (1).
Number signedQuotient(Operation *op, Args args, Error &error, int rounding) {
  int64_t a = args[0].integer, b = args[1].integer;
  if (b == 0) {
    error = "division by zero";
    return {};
  }
  if (b == -1) {
    return integerResult(op, -static_cast<uint64_t>(a));
  }
  int64_t quotient = a / b, rest = a % b;
  if (rest != 0 && rounding != 0 && ((rest < 0) == (b < 0)) == (rounding > 0)) {
    quotient += rounding;
  }
  return integerResult(op, quotient);
}

Number unsignedQuotient(Operation *op, Args args, Error &error, bool remainder, bool up) {
  uint64_t a = bitsOf(op, args, 0), b = bitsOf(op, args, 1);
  if (b == 0) {
    error = "division by zero";
    return {};
  }
  return integerResult(op, remainder ? a % b : a / b + (up && a % b != 0 ? 1 : 0));
}

Number shift(Operation *op, Args args, Error &error, int kind) {
  uint64_t count = bitsOf(op, args, 1);
  if (count >= widthOf(op->getResult(0).getType())) {
    error = "shift by the width or more";
    return {};
  }
  if (kind == 0) {
    return integerResult(op, static_cast<uint64_t>(args[0].integer) << count);
  }
  return kind == 1 ? integerResult(op, args[0].integer >> count)
                   : integerResult(op, bitsOf(op, args, 0) >> count);
}

Number constant(Operation *op, Args, Error &) {
  Attribute value = cast<arith::ConstantOp>(op).getValue();
  if (auto number = dyn_cast<FloatAttr>(value)) {
    return Number::ofReal(number.getValueAsDouble());
  }
  auto integer = cast<IntegerAttr>(value);
  return Number::ofInteger(cut(integer.getType(), integer.getValue().getSExtValue()));
}

Number compareFloats(Operation *op, Args args, Error &) {
  double a = args[0].real, b = args[1].real;
  bool unordered = std::isnan(a) || std::isnan(b);
  using P = arith::CmpFPredicate;
  switch (cast<arith::CmpFOp>(op).getPredicate()) {
  case P::AlwaysFalse:
    return Number::ofInteger(0);
  case P::AlwaysTrue:
    return Number::ofInteger(1);
  case P::ORD:
    return Number::ofInteger(!unordered);
  case P::UNO:
    return Number::ofInteger(unordered);
  case P::OEQ:
    return Number::ofInteger(a == b);
  case P::UEQ:
    return Number::ofInteger(unordered || a == b);
  case P::OGT:
    return Number::ofInteger(a > b);
  case P::UGT:
    return Number::ofInteger(unordered || a > b);
  case P::OGE:
    return Number::ofInteger(a >= b);
  case P::UGE:
    return Number::ofInteger(unordered || a >= b);
  case P::OLT:
    return Number::ofInteger(a < b);
  case P::ULT:
    return Number::ofInteger(unordered || a < b);
  case P::OLE:
    return Number::ofInteger(a <= b);
  case P::ULE:
    return Number::ofInteger(unordered || a <= b);
  case P::ONE:
    return Number::ofInteger(!unordered && a != b);
  case P::UNE:
    return Number::ofInteger(unordered || a != b);
  }
  return {};
}

Number compareIntegers(Operation *op, Args args, Error &) {
  int64_t a = args[0].integer, b = args[1].integer;
  uint64_t x = bitsOf(op, args, 0), y = bitsOf(op, args, 1);
  using P = arith::CmpIPredicate;
  switch (cast<arith::CmpIOp>(op).getPredicate()) {
  case P::eq:
    return Number::ofInteger(x == y);
  case P::ne:
    return Number::ofInteger(x != y);
  case P::slt:
    return Number::ofInteger(a < b);
  case P::sle:
    return Number::ofInteger(a <= b);
  case P::sgt:
    return Number::ofInteger(a > b);
  case P::sge:
    return Number::ofInteger(a >= b);
  case P::ult:
    return Number::ofInteger(x < y);
  case P::ule:
    return Number::ofInteger(x <= y);
  case P::ugt:
    return Number::ofInteger(x > y);
  case P::uge:
    return Number::ofInteger(x >= y);
  }
  return {};
}

Number toFloat(Operation *op, double value) {
  Type type = op->getResult(0).getType();
  if (type.isF16() || type.isBF16()) {
    value = rt::reference::roundTo(
        type.isF16() ? ::kvcache::abi::ElementType::F16 : ::kvcache::abi::ElementType::BF16, value);
  }
  return Number::ofReal(value);
}

/// Truncates to zero; what does not fit is an error, because targets would differ.
Number toSigned(Operation *op, Args args, Error &error) {
  double value = std::trunc(args[0].real),
         limit = std::ldexp(1.0, static_cast<int>(widthOf(op->getResult(0).getType())) - 1);
  if (!(value >= -limit && value < limit)) {
    error = "the number does not fit the integer type";
    return {};
  }
  return integerResult(op, value);
}

Number toUnsigned(Operation *op, Args args, Error &error) {
  double value = std::trunc(args[0].real),
         limit = std::ldexp(1.0, static_cast<int>(widthOf(op->getResult(0).getType())));
  if (!(value >= 0.0 && value < limit)) {
    error = "the number does not fit the integer type";
    return {};
  }
  return Number::ofInteger(
      cut(op->getResult(0).getType(), static_cast<int64_t>(static_cast<uint64_t>(value))));
}

double inverseRoot(double x) { return 1.0 / std::sqrt(x); }
double negate(double x) { return -x; }

template <typename OpTy>
void add(llvm::StringMap<ScalarFunction> &table, ScalarFunction function) {
  table[OpTy::getOperationName()] = function;
}

#define REAL2(Op, expression)                                                                      \
  add<Op>(table, [](Operation *, Args args, Error &) {                                             \
    double a = args[0].real, b = args[1].real;                                                     \
    return Number::ofReal(expression);                                                             \
  })
#define SIGNED2(Op, expression)                                                                    \
  add<Op>(table, [](Operation *op, Args args, Error &) {                                           \
    int64_t a = args[0].integer, b = args[1].integer;                                              \
    return integerResult(op, expression);                                                          \
  })
#define BITS2(Op, expression)                                                                      \
  add<Op>(table, [](Operation *op, Args args, Error &) {                                           \
    uint64_t a = bitsOf(op, args, 0), b = bitsOf(op, args, 1);                                     \
    return integerResult(op, expression);                                                          \
  })

void addFloatOps(llvm::StringMap<ScalarFunction> &table) {
  REAL2(arith::AddFOp, a + b);
  REAL2(arith::SubFOp, a - b);
  REAL2(arith::MulFOp, a * b);
  REAL2(arith::DivFOp, a / b);
  REAL2(arith::RemFOp, std::fmod(a, b));
  REAL2(arith::MaximumFOp, std::isnan(a) || std::isnan(b) ? a + b : std::fmax(a, b));
  REAL2(arith::MinimumFOp, std::isnan(a) || std::isnan(b) ? a + b : std::fmin(a, b));
  REAL2(arith::MaxNumFOp, std::fmax(a, b));
  REAL2(arith::MinNumFOp, std::fmin(a, b));
  REAL2(math::PowFOp, std::pow(a, b));
  REAL2(math::Atan2Op, std::atan2(a, b));
  REAL2(math::CopySignOp, std::copysign(a, b));
  add<math::FmaOp>(table, [](Operation *, Args args, Error &) {
    return Number::ofReal(args[0].real * args[1].real + args[2].real);
  });
  add<arith::NegFOp>(table, unary<negate>);
  add<math::AbsFOp>(table, unary<std::fabs>);
  add<math::SqrtOp>(table, unary<std::sqrt>);
  add<math::RsqrtOp>(table, unary<inverseRoot>);
  add<math::CbrtOp>(table, unary<std::cbrt>);
  add<math::ExpOp>(table, unary<std::exp>);
  add<math::Exp2Op>(table, unary<std::exp2>);
  add<math::ExpM1Op>(table, unary<std::expm1>);
  add<math::LogOp>(table, unary<std::log>);
  add<math::Log2Op>(table, unary<std::log2>);
  add<math::Log10Op>(table, unary<std::log10>);
  add<math::Log1pOp>(table, unary<std::log1p>);
  add<math::FloorOp>(table, unary<std::floor>);
  add<math::CeilOp>(table, unary<std::ceil>);
  add<math::RoundOp>(table, unary<std::round>);
  add<math::RoundEvenOp>(table, unary<std::nearbyint>);
  add<math::TruncOp>(table, unary<std::trunc>);
  add<math::TanhOp>(table, unary<std::tanh>);
  add<math::SinOp>(table, unary<std::sin>);
  add<math::CosOp>(table, unary<std::cos>);
  add<math::TanOp>(table, unary<std::tan>);
  add<math::AtanOp>(table, unary<std::atan>);
  add<math::ErfOp>(table, unary<std::erf>);
  add<arith::CmpFOp>(table, compareFloats);
}

void addIntegerOps(llvm::StringMap<ScalarFunction> &table) {
  BITS2(arith::AddIOp, a + b);
  BITS2(arith::SubIOp, a - b);
  BITS2(arith::MulIOp, a * b);
  SIGNED2(arith::MinSIOp, std::min(a, b));
  SIGNED2(arith::MaxSIOp, std::max(a, b));
  BITS2(arith::MinUIOp, std::min(a, b));
  BITS2(arith::MaxUIOp, std::max(a, b));
  BITS2(arith::AndIOp, a & b);
  BITS2(arith::OrIOp, a | b);
  BITS2(arith::XOrIOp, a ^ b);
  add<arith::DivSIOp>(table, [](Operation *op, Args args, Error &error) {
    return signedQuotient(op, args, error, 0);
  });
  add<arith::FloorDivSIOp>(table, [](Operation *op, Args args, Error &error) {
    return signedQuotient(op, args, error, -1);
  });
  add<arith::CeilDivSIOp>(table, [](Operation *op, Args args, Error &error) {
    return signedQuotient(op, args, error, 1);
  });
  add<arith::RemSIOp>(table, [](Operation *op, Args args, Error &error) {
    if (args[1].integer == 0) {
      error = "division by zero";
      return Number();
    }
    return integerResult(op, args[1].integer == -1 ? 0 : args[0].integer % args[1].integer);
  });
  add<arith::DivUIOp>(table, [](Operation *op, Args args, Error &error) {
    return unsignedQuotient(op, args, error, false, false);
  });
  add<arith::CeilDivUIOp>(table, [](Operation *op, Args args, Error &error) {
    return unsignedQuotient(op, args, error, false, true);
  });
  add<arith::RemUIOp>(table, [](Operation *op, Args args, Error &error) {
    return unsignedQuotient(op, args, error, true, false);
  });
  add<arith::ShLIOp>(
      table, [](Operation *op, Args args, Error &error) { return shift(op, args, error, 0); });
  add<arith::ShRSIOp>(
      table, [](Operation *op, Args args, Error &error) { return shift(op, args, error, 1); });
  add<arith::ShRUIOp>(
      table, [](Operation *op, Args args, Error &error) { return shift(op, args, error, 2); });
  add<math::AbsIOp>(table, [](Operation *op, Args args, Error &) {
    return integerResult(op, args[0].integer < 0 ? -static_cast<uint64_t>(args[0].integer)
                                                 : args[0].integer);
  });
  add<math::CtPopOp>(table, [](Operation *op, Args args, Error &) {
    return integerResult(op, llvm::popcount(bitsOf(op, args, 0)));
  });
  add<arith::CmpIOp>(table, compareIntegers);
}

#undef REAL2
#undef SIGNED2
#undef BITS2

void addCasts(llvm::StringMap<ScalarFunction> &table) {
  add<arith::ConstantOp>(table, constant);
  add<arith::SelectOp>(table, [](Operation *, Args args, Error &) {
    return args[0].integer != 0 ? args[1] : args[2];
  });
  auto resize = [](Operation *op, Args args, Error &) {
    // i1 is held as 0 / 1 but its signed value is -1.
    bool flag = op->getOperand(0).getType().isInteger(1);
    return integerResult(op, flag ? -args[0].integer : args[0].integer);
  };
  auto resizeUnsigned = [](Operation *op, Args args, Error &) {
    return integerResult(op, bitsOf(op, args, 0));
  };
  add<arith::IndexCastOp>(table, resize);
  add<arith::ExtSIOp>(table, resize);
  add<arith::IndexCastUIOp>(table, resizeUnsigned);
  add<arith::ExtUIOp>(table, resizeUnsigned);
  add<arith::TruncIOp>(table, resizeUnsigned);
  add<arith::SIToFPOp>(table, [](Operation *op, Args args, Error &) {
    bool flag = op->getOperand(0).getType().isInteger(1);
    return toFloat(op, static_cast<double>(flag ? -args[0].integer : args[0].integer));
  });
  add<arith::UIToFPOp>(table, [](Operation *op, Args args, Error &) {
    return toFloat(op, static_cast<double>(bitsOf(op, args, 0)));
  });
  add<arith::FPToSIOp>(table, toSigned);
  add<arith::FPToUIOp>(table, toUnsigned);
  add<arith::ExtFOp>(table,
                     [](Operation *op, Args args, Error &) { return toFloat(op, args[0].real); });
  add<arith::TruncFOp>(table,
                       [](Operation *op, Args args, Error &) { return toFloat(op, args[0].real); });
}

} // namespace

ScalarFunction findScalarFunction(Operation *op) {
  static const llvm::StringMap<ScalarFunction> table = [] {
    llvm::StringMap<ScalarFunction> all;
    addFloatOps(all);
    addIntegerOps(all);
    addCasts(all);
    return all;
  }();
  if (op->getNumResults() != 1 || !op->getResult(0).getType().isIntOrIndexOrFloat()) {
    return nullptr;
  }
  return table.lookup(op->getName().getStringRef());
}

Number numberOf(Type type, double value) {
  return isa<FloatType>(type) ? Number::ofReal(value)
                              : Number::ofInteger(cut(type, static_cast<int64_t>(value)));
}

StatusOr<ScalarProgram> ScalarProgram::compile(Block &block) {
  ScalarProgram program;
  llvm::DenseMap<Value, unsigned> places;
  auto placesOf = [&](Operation &op, SmallVectorImpl<unsigned> &into) {
    for (Value operand : op.getOperands()) {
      auto place = places.find(operand);
      if (place == places.end()) {
        return Status::badInput("'" + op.getName().getStringRef().str() +
                                "' uses a value from outside its scalar region");
      }
      into.push_back(place->second);
    }
    return Status::ok();
  };
  for (BlockArgument argument : block.getArguments()) {
    places[argument] = program.arguments_++;
  }
  unsigned next = program.arguments_;
  for (Operation &op : block.without_terminator()) {
    Step step{&op, findScalarFunction(&op), {}};
    if (!step.function) {
      return Status::badInput("'" + op.getName().getStringRef().str() +
                              "' is no op of a scalar region");
    }
    KVCACHE_RETURN_IF_ERROR(placesOf(op, step.operands));
    places[op.getResult(0)] = next++;
    program.steps_.push_back(std::move(step));
  }
  KVCACHE_RETURN_IF_ERROR(placesOf(block.back(), program.yielded_));
  program.numbers_.resize(next);
  return program;
}

Status ScalarProgram::run(ArrayRef<Number> args, SmallVectorImpl<Number> &results) {
  std::copy(args.begin(), args.end(), numbers_.begin());
  SmallVector<Number, 4> operands;
  unsigned next = arguments_;
  for (const Step &step : steps_) {
    operands.clear();
    for (unsigned place : step.operands) {
      operands.push_back(numbers_[place]);
    }
    const char *error = nullptr;
    numbers_[next++] = step.function(step.op, operands, error);
    if (error) {
      return Status::badInput("'" + step.op->getName().getStringRef().str() + "': " + error);
    }
  }
  results.clear();
  for (unsigned place : yielded_) {
    results.push_back(numbers_[place]);
  }
  return Status::ok();
}

} // namespace mlir::kvcache::reference
