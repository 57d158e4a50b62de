// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// select.alloc proportional: shares of a total, in f64 and integers, by one task. The output is the
// only memory: while points close it holds -1 at those that are open, then counts.

#include "targets/cpu/NestBody.h"

#include "runtime/abi/KernelAbi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

namespace {

class Shares {
public:
  Shares(NestBody &body, SelectAllocOp op)
      : body_(body), k(body.k), op_(op), output_(*body.outputFor(op.getOutput())) {}

  void emit() {
    total_ = k.max(k.toI64(body_.evaluate(op_.getTotal(), Point())), k.i64(0));
    start();
    closeFullPoints();
    Value left = k.sub(total_, takeWholeShares());
    giveLeftovers(left);
  }

private:
  using Inside = llvm::function_ref<SmallVector<Value>(const Point &, ValueRange)>;

  /// Visits every point in flat order, carrying `init`.
  SmallVector<Value> forPoints(ValueRange init, Inside inside) {
    return forPoints(axesOf(op_.getScores()), Point(), init, inside);
  }
  SmallVector<Value> forPoints(ArrayRef<AxisAttr> axes, const Point &point, ValueRange init,
                               Inside inside) {
    if (axes.empty()) {
      return inside(point, init);
    }
    std::string axis = axes.front().getName();
    return body_.loop(k.index(0), body_.bound(op_.getScores(), axis, point), k.index(1), init,
                      [&](Value i, ValueRange carried) {
                        return forPoints(axes.drop_front(),
                                         point.with(axis, {AxisIndex::Kind::Scalar, i, false}),
                                         carried, inside);
                      });
  }

  Value f64(double value) {
    return arith::ConstantOp::create(k.builder(), k.loc(), k.builder().getF64FloatAttr(value));
  }
  Value toF64(Value integer) {
    return arith::SIToFPOp::create(k.builder(), k.loc(), k.builder().getF64Type(), integer);
  }
  Value floorOf(Value x) { return math::FloorOp::create(k.builder(), k.loc(), x); }

  Value weight(const Point &point) {
    Value w = body_.evaluate(op_.getScores(), point);
    w = w.getType().isF32() ? w : k.intToF32(w);
    return arith::ExtFOp::create(k.builder(), k.loc(), k.builder().getF64Type(), w);
  }
  Value cap(const Point &point) {
    Value most = k.i64(std::numeric_limits<int32_t>::max());
    return op_.getCap() ? k.min(k.max(k.toI64(body_.evaluate(op_.getCap(), point)), k.i64(0)), most)
                        : most;
  }
  Value floor(const Point &point) {
    return op_.getFloor()
               ? k.min(k.max(k.toI64(body_.evaluate(op_.getFloor(), point)), k.i64(0)), cap(point))
               : k.i64(0);
  }
  Value count(const Point &point) { return k.toI64(body_.loadOutput(output_, point)); }

  /// The exact share of an open point in what is left above the floors.
  Value share(const Point &point) {
    Value parts = k.div(k.mul(units_, weight(point)), weights_);
    return k.select(k.eq(weights_, f64(0.0)), k.div(units_, toF64(open_)), parts);
  }

  /// Opens every point; a weight that is negative or not a finite number ends the kernel.
  void start() {
    forPoints({}, [&](const Point &point, ValueRange) {
      Value w = weight(point);
      Value fits = k.andi(k.ge(w, f64(0.0)), k.lt(w, f64(std::numeric_limits<double>::infinity())));
      body_.when(k.xori(fits, k.i1(true)), [&] { body_.raise(KVCACHE_KERNEL_NAN_SCORE); });
      body_.storeAt(output_, point, k.i32(-1));
      return SmallVector<Value>{};
    });
  }

  /// Closes points at their caps until the shares of all others fit.
  void closeFullPoints() {
    SmallVector<Value> end = k.whileLoop(
        ValueRange{k.i1(true), f64(0.0), f64(0.0), k.i64(0)},
        [&](ValueRange carried) { return carried[0]; },
        [&](ValueRange) {
          SmallVector<Value> next;
          body_.scoped([&] {
            SmallVector<Value> sums = sumOpen();
            units_ = toF64(k.max(k.sub(total_, sums[0]), k.i64(0)));
            weights_ = sums[1];
            open_ = sums[2];
            next = {closeThoseAbove(), units_, weights_, open_};
          });
          return next;
        });
    units_ = end[1];
    weights_ = end[2];
    open_ = end[3];
  }

  /// What is given already (caps of closed points, floors of open ones), the weights of open points
  /// and their number.
  SmallVector<Value> sumOpen() {
    return forPoints(
        ValueRange{k.i64(0), f64(0.0), k.i64(0)}, [&](const Point &point, ValueRange sums) {
          Value isOpen = k.lt(count(point), k.i64(0));
          Value given = k.select(isOpen, floor(point), cap(point));
          Value w = k.select(isOpen, weight(point), f64(0.0));
          return SmallVector<Value>{k.add(sums[0], given), k.add(sums[1], w),
                                    k.add(sums[2], k.select(isOpen, k.i64(1), k.i64(0)))};
        });
  }

  Value closeThoseAbove() {
    return forPoints(ValueRange{k.i1(false)}, [&](const Point &point, ValueRange any) {
      Value most = cap(point);
      Value above = k.gt(k.add(toF64(floor(point)), share(point)), toF64(most));
      Value closes = k.andi(k.lt(count(point), k.i64(0)), above);
      body_.when(closes, [&] { body_.storeAt(output_, point, k.toI32(most)); });
      return SmallVector<Value>{k.ori(any[0], closes)};
    })[0];
  }

  /// The floor and the whole part of the share of an open point.
  Value wholeShare(const Point &point) {
    Value whole = arith::FPToSIOp::create(k.builder(), k.loc(), k.builder().getI64Type(),
                                          floorOf(share(point)));
    return k.add(floor(point), whole);
  }

  /// Counts of open points without what is left over; returns the sum of all.
  Value takeWholeShares() {
    return forPoints(ValueRange{k.i64(0)}, [&](const Point &point, ValueRange sum) {
      Value closed = count(point);
      Value now = k.select(k.lt(closed, k.i64(0)), wholeShare(point), closed);
      body_.storeAt(output_, point, k.toI32(now));
      return SmallVector<Value>{k.add(sum[0], now)};
    })[0];
  }

  /// The fraction of a point that may still get a unit; -1 of others.
  Value fraction(const Point &point) {
    Value x = share(point), now = count(point);
    Value fits = k.andi(k.lt(now, cap(point)), k.eq(now, wholeShare(point)));
    return k.select(fits, k.sub(x, floorOf(x)), f64(-1.0));
  }

  /// One unit each to the largest fractions, of equal ones the first.
  void giveLeftovers(Value left) {
    k.whileLoop(
        ValueRange{left}, [&](ValueRange carried) { return k.gt(carried[0], k.i64(0)); },
        [&](ValueRange carried) {
          SmallVector<Value> next;
          body_.scoped([&] {
            Value best = forPoints(ValueRange{f64(-1.0)}, [&](const Point &point, ValueRange most) {
              return SmallVector<Value>{k.max(fraction(point), most[0])};
            })[0];
            Value given =
                forPoints(ValueRange{k.i1(false)}, [&](const Point &point, ValueRange given) {
                  Value x = fraction(point);
                  Value gets = k.andi(k.andi(k.eq(x, best), k.ge(x, f64(0.0))),
                                      k.xori(given[0], k.i1(true)));
                  body_.when(gets, [&] {
                    body_.storeAt(output_, point, k.toI32(k.add(count(point), k.i64(1))));
                  });
                  return SmallVector<Value>{k.ori(given[0], gets)};
                })[0];
            next = {k.select(given, k.sub(carried[0], k.i64(1)), k.i64(0))};
          });
          return next;
        });
  }

  NestBody &body_;
  KernelBuilder &k;
  SelectAllocOp op_;
  const NestOperand &output_;
  Value total_, units_, weights_, open_;
};

} // namespace

void mlir::kvcache::cpu::emitShares(NestBody &body, SelectAllocOp op) { Shares(body, op).emit(); }
