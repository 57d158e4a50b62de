// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `run --verify` sees a fault wherever the target has one: each test spoils one thing that the
// target computes and expects that thing to be named.

#include "tools/commands/VerifyRun.h"

#include "test/model/ModelFixtures.h"
#include "tools/compiler/CompilerProvider.h"

#include <functional>

using namespace kvcache;
using namespace kvcache::rt;
using namespace kvcache::test;

namespace {

/// Another execution with faults: `spoil` changes the attention output of a layer's prefill or
/// decode.
class Faulty final : public Execution {
public:
  using Spoil = std::function<void(int64_t layer, const LayerRows &rows)>;

  explicit Faulty(std::unique_ptr<Execution> right) : right_(std::move(right)) {}

  Spoil prefillFault, decodeFault;
  int64_t budgetFault = 0;

  const Geometry &geometry() const override { return right_->geometry(); }
  std::string methodName() const override { return right_->methodName(); }
  std::string methodHash() const override { return right_->methodHash(); }
  std::string target() const override { return "faulty"; }
  std::map<std::string, std::string> parameters() const override { return right_->parameters(); }
  bool hasTokenBudget() const override { return right_->hasTokenBudget(); }
  std::string budgetRefusal() const override { return right_->budgetRefusal(); }
  int64_t neededQueryRows() const override { return right_->neededQueryRows(); }
  bool needsPreRopeKeys() const override { return right_->needsPreRopeKeys(); }
  bool needsCalibration() const override { return right_->needsCalibration(); }
  Status calibrate(int64_t layer, const LayerRows &rows) override {
    return right_->calibrate(layer, rows);
  }
  Status finishCalibration() override { return right_->finishCalibration(); }
  StatusOr<std::unique_ptr<Sequence>> createSequence(const SequenceOptions &options) override {
    SequenceOptions changed = options;
    changed.budget += budgetFault;
    return right_->createSequence(changed);
  }
  Status prefill(int64_t layer, const std::vector<Sequence *> &sequences,
                 const std::vector<LayerRows> &rows) override {
    return spoiled(right_->prefill(layer, sequences, rows), prefillFault, layer, rows);
  }
  Status ingest(int64_t layer, const std::vector<Sequence *> &sequences,
                const std::vector<LayerRows> &rows) override {
    return right_->ingest(layer, sequences, rows);
  }
  Status promptEnd(const std::vector<Sequence *> &sequences) override {
    return right_->promptEnd(sequences);
  }
  Status decode(int64_t layer, const std::vector<Sequence *> &sequences,
                const std::vector<LayerRows> &rows) override {
    return spoiled(right_->decode(layer, sequences, rows), decodeFault, layer, rows);
  }
  Status stepEnd(const std::vector<Sequence *> &sequences) override {
    return right_->stepEnd(sequences);
  }
  Status attend(int64_t layer, const Sequence &sequence, int64_t rows, const float *q, float *out,
                float *lse) override {
    return right_->attend(layer, sequence, rows, q, out, lse);
  }
  std::vector<KernelReport> kernels() const override { return right_->kernels(); }

private:
  static Status spoiled(Status status, const Spoil &fault, int64_t layer,
                        const std::vector<LayerRows> &rows) {
    if (fault) {
      fault(layer, rows.front());
    }
    return status;
  }

  std::unique_ptr<Execution> right_;
};

class VerifyRun : public testing::Test {
protected:
  void SetUp() override {
    decoder = loadDecoder(tinyModel("llama-llama3-tied-f16"));
    ASSERT_TRUE(decoder);
    target = std::make_unique<Faulty>(load());
    reference = load();
    for (int32_t i = 0; i < 40; ++i) {
      prompts.front().tokens.push_back((i * 37 + 11) % 60);
    }
  }

  std::unique_ptr<Execution> load() {
    tools::MethodRequest request;
    request.method = "knorm";
    request.target = "reference";
    request.geometry = decoder->geometry(ElementType::F16);
    request.captureScores = true;
    auto execution = provider.load(request);
    expectOk(execution.status());
    return execution.isOk() ? std::move(*execution) : nullptr;
  }

  Status verify() {
    tools::RunOptions options;
    options.budget.kind = tools::Budget::Kind::Exact;
    options.budget.amount = 12;
    options.maxNewTokens = 2;
    auto made = tools::runMethod(*decoder, *target, prompts, options);
    KVCACHE_RETURN_IF_ERROR(made.status());
    rows = std::move(*made);
    return tools::verifyRun(*decoder, *target, *reference, prompts, rows);
  }

  void expectFault(const std::string &named) {
    Status status = verify();
    EXPECT_EQ(status.code(), StatusCode::CheckFailed);
    EXPECT_NE(status.message().find(named), std::string::npos) << status.message();
    EXPECT_FALSE(rows.empty() || rows.front().verified);
  }

  tools::CompilerProvider provider;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Faulty> target;
  std::unique_ptr<Execution> reference;
  std::vector<tools::NamedPrompt> prompts = {{"prompt", {}}};
  std::vector<tools::RunRow> rows;
};

} // namespace

TEST_F(VerifyRun, accepts_a_right_target) {
  expectOk(verify());
  EXPECT_TRUE(rows.front().verified);
}

TEST_F(VerifyRun, names_the_layer_of_a_wrong_prompt_attention) {
  target->prefillFault = [](int64_t layer, const LayerRows &rows) {
    rows.out[0] += layer == 1 ? 1.0f : 0.0f;
  };
  expectFault("layers.1: the attention output of prompt rows 0 to 39 differs");
}

TEST_F(VerifyRun, sees_an_output_that_is_no_number) {
  expectOk(verify());
  target->prefillFault = [](int64_t, const LayerRows &rows) { rows.out[3] = NAN; };
  Status status = tools::verifyRun(*decoder, *target, *reference, prompts, rows);
  EXPECT_NE(status.message().find("layers.0: the attention output"), std::string::npos)
      << status.message();
}

TEST_F(VerifyRun, sees_other_rows_kept) {
  target->budgetFault = -1;
  expectFault("layers.0.indices head 0: 11 rows kept and 12");
}

TEST_F(VerifyRun, sees_a_prefill_of_the_run_that_went_wrong) {
  expectOk(verify());
  rows.front().verified = false;
  for (float &logit : rows.front().promptLogits) {
    logit += 0.1f;
  }
  Status status = tools::verifyRun(*decoder, *target, *reference, prompts, rows);
  EXPECT_NE(status.message().find("the logits of the prompt differ"), std::string::npos)
      << status.message();
}

TEST_F(VerifyRun, sees_a_wrong_decode_attention) {
  target->decodeFault = [](int64_t, const LayerRows &rows) { rows.out[0] += 1.0f; };
  expectFault("the logits of the first step differ");
}
