// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The eigensolver that loaded code calls, and artefacts made by a calibrate program that calls it.

#include "ToyMethod.h"

#include "runtime/exec/Executor.h"
#include "runtime/exec/Kvx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace kvcache::rt {

TEST(SymmetricEigen, RebuildsRandomMatricesInOrderAndSign) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (int64_t n : {1, 2, 7, 64}) {
    std::vector<float> half(n * n), matrix(n * n), values(n), vectors(n * n);
    for (float &x : half) {
      x = normal(random);
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        matrix[i * n + j] = half[i * n + j] + half[j * n + i];
      }
    }
    ASSERT_EQ(kvcache_symmetric_eigen(n, matrix.data(), values.data(), vectors.data()), 0);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_TRUE(i == 0 || values[i - 1] >= values[i]);
      int64_t largest = 0;
      for (int64_t r = 1; r < n; ++r) {
        largest = std::fabs(vectors[r * n + i]) > std::fabs(vectors[largest * n + i]) ? r : largest;
      }
      EXPECT_GT(vectors[largest * n + i], 0);
      for (int64_t j = 0; j < n; ++j) {
        double rebuilt = 0, product = 0;
        for (int64_t c = 0; c < n; ++c) {
          rebuilt += double(vectors[i * n + c]) * values[c] * vectors[j * n + c];
          product += double(vectors[c * n + i]) * vectors[c * n + j];
        }
        EXPECT_NEAR(rebuilt, matrix[i * n + j], 1e-5 * static_cast<double>(n));
        EXPECT_NEAR(product, i == j, 1e-6);
      }
    }
  }
}

TEST(SymmetricEigen, RefusesWhatIsNotFinite) {
  float matrix[4] = {1, NAN, NAN, 1}, values[2], vectors[4];
  EXPECT_NE(kvcache_symmetric_eigen(2, matrix, values, vectors), 0);
  EXPECT_NE(kvcache_symmetric_eigen(0, matrix, values, vectors), 0);
}

/// Sums k . k^T of head 0 over the rows and gives its eigenvectors.
static const char *const source = R"C(
#include "runtime/abi/KernelAbi.h"
int32_t basis(int64_t task, void *const *args) {
  const float *k = args[0];
  float covariance[16] = {0}, values[4];
  for (int64_t r = 0; r < *(int64_t *)args[2]; ++r)
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j)
        covariance[4 * i + j] += k[r * 8 + i] * k[r * 8 + j];
  return kvcache_symmetric_eigen(4, covariance, values, args[1]) == 0 ? KVCACHE_KERNEL_OK : KVCACHE_KERNEL_EIGEN_FAILED;
}
)C";

/// A method of one calibrate program and one artefact [D, D].
static std::shared_ptr<proto::Executable> calibratedMethod() {
  auto message = std::make_shared<proto::Executable>(*toy::makeExecutable());
  message->clear_programs();
  message->clear_has_token_budget();
  EXPECT_TRUE(packObject(toy::compileKernels(source), *message->mutable_code(0)).isOk());
  proto::Tensor &tensor = *message->add_tensors();
  tensor.set_name("basis");
  tensor.set_artefact(true);
  tensor.add_dims(4);
  tensor.add_dims(4);
  proto::Program &program = *message->add_programs();
  program.set_kind(proto::Program::CALIBRATE);
  program.set_slots(1);
  program.add_bindings()->set_role(proto::SlotBinding::ROWS);
  program.add_buffers()->set_role(proto::Buffer::KEY);
  program.add_buffers()->set_role(proto::Buffer::TENSOR);
  proto::Step::Kernel &kernel = *program.add_steps()->mutable_kernel();
  kernel.set_symbol("basis");
  kernel.add_args()->set_buffer(0);
  kernel.add_args()->set_buffer(1);
  kernel.add_args()->mutable_scalars()->add_slots(0);
  return message;
}

TEST(Calibration, MakesArtefactsForTheSequencesThatFollow) {
  auto execution = CompiledExecution::create(calibratedMethod());
  ASSERT_TRUE(execution.isOk()) << execution.status().message();
  EXPECT_TRUE((*execution)->needsCalibration());
  EXPECT_NE((*execution)->createSequence({}).status().message().find("must be calibrated first"),
            std::string::npos);
  EXPECT_EQ((*execution)->finishCalibration().message(), "calibration got no rows for layer 0");
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    for (int64_t chunk = 0; chunk < 2; ++chunk) {
      toy::Rows rows(layer, 10 * chunk, 10);
      std::fill(rows.k.begin(), rows.k.end(), 0.0f);
      for (int64_t r = 0; r < 10; ++r) {
        rows.k[r * 8 + (r % 4)] = static_cast<float>(r % 4 == layer + 1 ? 9 : r % 4 + 1);
      }
      ASSERT_TRUE((*execution)->calibrate(layer, rows.view()).isOk());
    }
  }
  ASSERT_TRUE((*execution)->finishCalibration().isOk());
  EXPECT_FALSE((*execution)->needsCalibration());
  EXPECT_TRUE((*execution)->createSequence({}).isOk());
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    ASSERT_EQ((*execution)->artefact(0, layer).size(), 64u);
    const float *basis = reinterpret_cast<const float *>((*execution)->artefact(0, layer).data());
    EXPECT_NEAR(basis[4 * (layer + 1)], 1.0f, 1e-6f) << "the first vector of layer " << layer;
  }
}

TEST(Calibration, ArtefactsCanBeSet) {
  auto execution = CompiledExecution::create(calibratedMethod());
  ASSERT_TRUE(execution.isOk());
  EXPECT_EQ((*execution)->setArtefact(0, 1, std::vector<char>(63)).message(),
            "artefact 'basis', layer 1: expected 64 bytes, got 63");
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    EXPECT_TRUE((*execution)->needsCalibration());
    ASSERT_TRUE((*execution)->setArtefact(0, layer, std::vector<char>(64, 1)).isOk());
  }
  EXPECT_FALSE((*execution)->needsCalibration());
  EXPECT_FALSE((*execution)->setArtefact(1, 0, {}).isOk());
}

TEST(Calibration, AFailingEigensolverIsNamed) {
  auto execution = CompiledExecution::create(calibratedMethod());
  ASSERT_TRUE(execution.isOk());
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    toy::Rows rows(layer, 0, 4);
    rows.k[0] = NAN;
    ASSERT_TRUE((*execution)->calibrate(layer, rows.view()).isOk());
  }
  EXPECT_EQ((*execution)->finishCalibration().message(),
            "the eigensolver found no solution for append in phase calibrate, layer 0");
}

} // namespace kvcache::rt
