// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tiling of the products. Invariant: tile borders follow from the shapes alone.

#include "runtime/model/Linear.h"

#include "runtime/parallel/BlasBuffers.h"
#include "runtime/parallel/Parallel.h"

#include <algorithm>
#include <cblas.h>

namespace kvcache::rt {

/// A multiple of rowGroup: a tile border never splits a group.
static constexpr int64_t tileRows = 21 * rowGroup;
static constexpr int64_t tileColumns = 128;

namespace {

struct Tile {
  const Product *product;
  int64_t row, rows, column, columns;
};

} // namespace

/// Tiles of 128 to 255 columns (all, if there are fewer), borders at multiples
/// of 16.
static void addTiles(const Product &product, int64_t rows, std::vector<Tile> &tiles) {
  int64_t out = product.weight.out;
  int64_t count = std::max<int64_t>(1, out / tileColumns);
  for (int64_t t = 0; t < count; ++t) {
    int64_t first = out * t / count / 16 * 16;
    int64_t last = t + 1 == count ? out : out * (t + 1) / count / 16 * 16;
    for (int64_t row = 0; row < rows; row += tileRows) {
      tiles.push_back({&product, row, std::min(tileRows, rows - row), first, last - first});
    }
  }
}

static void runTile(const float *x, const Tile &tile) {
  const Product &product = *tile.product;
  const Matrix &weight = product.weight;
  float *y = product.y + tile.row * weight.out + tile.column;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(tile.rows),
              static_cast<int>(tile.columns), static_cast<int>(weight.in), 1.0f,
              x + tile.row * weight.in, static_cast<int>(weight.in),
              weight.data + tile.column * weight.in, static_cast<int>(weight.in),
              product.accumulate ? 1.0f : 0.0f, y, static_cast<int>(weight.out));
  if (!product.bias) {
    return;
  }
  for (int64_t r = 0; r < tile.rows; ++r) {
    for (int64_t c = 0; c < tile.columns; ++c) {
      y[r * weight.out + c] += product.bias[tile.column + c];
    }
  }
}

void multiply(const float *x, int64_t rows, const std::vector<Product> &products) {
  std::vector<Tile> tiles;
  for (const Product &product : products) {
    addTiles(product, paddedRows(rows), tiles);
  }
  if (!useThreadLocalBlasBuffers()) { // another program's BLAS is in force:
                                      // never two calls at once
    for (const Tile &tile : tiles) {
      runTile(x, tile);
    }
    return;
  }
  parallelFor(static_cast<int64_t>(tiles.size()),
              [&](int64_t i) { runTile(x, tiles[static_cast<size_t>(i)]); });
}

} // namespace kvcache::rt
