# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties that each method's text promises, asserted of its oracle. Run: python3 -m unittest test_oracles"""
import math
import unittest

import numpy as np

import oracle_ada_snapkv
import oracle_dense
import oracle_h2o
import oracle_kivi
import oracle_knorm
import oracle_pca
import oracle_pyramidkv
import oracle_quarot
import oracle_snapkv
import oracle_snapkv_kivi
import oracle_streaming_llm
import oracle_tome_merge
import oracle_tova
from cases import METHODS, UNBUDGETED, Case, make_inputs, oracle_of
from compare import relative_l2
from oracle_support import attend, hadamard, layers_of, prompt_probabilities, rope


def problem(**fields):
    """Inputs of a small case."""
    return make_inputs(Case("test", **fields))


def heads(result, name, layer=0, count=2):
    """A per-head output as a list, ragged or not."""
    whole = result.get(f"layers.{layer}.{name}")
    return list(whole) if whole is not None else [result[f"layers.{layer}.{name}.{h}"] for h in range(count)]


class EveryMethod(unittest.TestCase):
    def test_budget_of_at_least_all_rows_equals_dense(self):
        inputs = problem(tokens=40, group=4, steps=5)
        dense = oracle_dense.run(inputs, {})
        for method in METHODS:
            if method in UNBUDGETED or "kivi" in method:
                continue
            got = oracle_of(method).run(inputs, {}, 45)
            for name, values in dense.items():
                if not name.startswith("__"):
                    self.assertTrue(np.array_equal(got[name], values), f"{method} {name}")

    def test_kept_rows_are_the_input_rows(self):
        inputs = problem(tokens=120, group=4, steps=0)
        for method in METHODS:
            if method in UNBUDGETED or "kivi" in method:
                continue
            result = oracle_of(method).run(inputs, {}, 90)
            for head, rows in enumerate(heads(result, "indices")):
                self.assertTrue((np.diff(rows) > 0).all())
                self.assertTrue(np.array_equal(heads(result, "k")[head], inputs["layers.0.k"][head, rows]), method)
                self.assertTrue(np.array_equal(heads(result, "pos")[head], rows), method)

    def test_values_do_not_influence_the_choice(self):
        inputs = problem(tokens=120, group=4, steps=0)
        scaled = {**inputs, "layers.0.v": inputs["layers.0.v"] * 7}
        for method in set(METHODS) - UNBUDGETED:
            run = oracle_of(method).run
            for one, other in zip(heads(run(inputs, {}, 80), "indices"), heads(run(scaled, {}, 80), "indices")):
                self.assertTrue(np.array_equal(one, other), method)

    def test_uncompressed_output_is_attention_over_the_stored_rows(self):
        inputs = problem(tokens=70, group=4, steps=3)
        for method in METHODS:
            result = oracle_of(method).run(inputs, {}, None if method in UNBUDGETED else 50)
            for head in range(8):
                keys, values = heads(result, "k")[head // 4], heads(result, "v")[head // 4]
                out, _, lse = attend(inputs["layers.0.queries"][head, 1].astype(float), keys.astype(float), values)
                np.testing.assert_allclose(result["layers.0.out"][head, 1], out, rtol=1e-4, atol=1e-5)
                self.assertAlmostEqual(result["layers.0.lse"][head, 1], lse, places=4)

    def test_first_step_of_prompt_only_selection_sees_the_kept_rows_and_itself(self):
        inputs = problem(tokens=120, group=2, steps=1, queries=0)
        for method in ("knorm", "snapkv", "pyramidkv", "ada-snapkv"):
            result = oracle_of(method).run(inputs, {}, 80)
            keys, values = heads(result, "k")[1].astype(float), heads(result, "v")[1].astype(float)
            out = attend(inputs["layers.0.step.q"][3, 0].astype(float), keys, values)[0]
            np.testing.assert_allclose(result["layers.0.step.out"][3, 0], out, rtol=1e-4, atol=1e-5)

    def test_too_few_query_rows_are_refused(self):
        inputs = problem(tokens=120, query_rows=5, steps=0)
        for method in ("snapkv", "h2o", "ada-snapkv", "pyramidkv"):
            with self.assertRaises(ValueError):
                oracle_of(method).run(inputs, {}, 80)


class StreamingLlm(unittest.TestCase):
    def test_length_sinks_and_newest(self):
        result = oracle_streaming_llm.run(problem(tokens=60, steps=15), {}, 20)
        want = [0, 1, 2, 3] + list(range(59, 75))
        self.assertEqual(result["layers.0.indices"].tolist(), [want, want])

    def test_sinks_beyond_the_budget(self):
        result = oracle_streaming_llm.run(problem(tokens=60, steps=4), {}, 3)
        self.assertEqual(result["layers.1.indices"][0].tolist(), [0, 1, 2])

    def test_no_sinks_is_a_sliding_window(self):
        result = oracle_streaming_llm.run(problem(tokens=60, steps=2), {"sinks": 0}, 10)
        self.assertEqual(result["layers.0.indices"][0].tolist(), list(range(52, 62)))

    def test_reindexed_equals_dense_until_something_leaves(self):
        inputs = problem(tokens=30, group=2, steps=6, pre_rope=True)
        dense = oracle_dense.run(inputs, {})
        moved = oracle_streaming_llm.run(inputs, {"positions": "cache"}, 36)
        self.assertLess(relative_l2(moved["layers.0.step.out"], dense["layers.0.step.out"]), 1e-6)
        self.assertLess(relative_l2(moved["layers.0.out"], dense["layers.0.out"]), 1e-6)

    def test_reindexed_depends_on_content_not_on_absolute_positions(self):
        inputs = problem(tokens=50, group=2, steps=8)
        freq, shift = inputs["rope_inv_freq"].astype(float), 1000
        later = {**inputs, "positions": np.arange(50) + shift}
        for name, values in inputs.items():
            if name.endswith((".k", ".q", "queries")):
                later[name] = rope(values.astype(float), [shift] * values.shape[1], freq).astype(np.float32)
        one = oracle_streaming_llm.run(inputs, {"positions": "cache"}, 20)
        other = oracle_streaming_llm.run(later, {"positions": "cache"}, 20)
        for name in ("step.out", "out", "k", "pos"):
            self.assertLess(relative_l2(other[f"layers.0.{name}"], one[f"layers.0.{name}"]), 1e-6, name)

    def test_reindexed_keys_are_pre_rope_keys_at_their_index(self):
        inputs = problem(tokens=50, steps=0, pre_rope=True)
        result = oracle_streaming_llm.run(inputs, {"positions": "cache"}, 12)
        rows = [0, 1, 2, 3] + list(range(42, 50))
        want = rope(inputs["layers.0.k_pre"][0, rows].astype(float), np.arange(12), inputs["rope_inv_freq"])
        np.testing.assert_allclose(result["layers.0.k"][0], want, atol=1e-5)
        self.assertEqual(result["layers.0.pos"][0].tolist(), list(range(12)))


class KNorm(unittest.TestCase):
    def test_largest_kept_norm_is_at_most_the_smallest_dropped(self):
        inputs = problem(tokens=80, steps=0)
        result = oracle_knorm.run(inputs, {}, 30)
        for head in range(2):
            norms, kept = np.linalg.norm(inputs["layers.0.k"][head], axis=1), result["layers.0.indices"][head]
            self.assertEqual(len(kept), 30)
            self.assertLessEqual(norms[kept].max(), np.delete(norms, kept).min())

    def test_rope_does_not_change_the_set(self):
        inputs = problem(tokens=80, steps=0, pre_rope=True)
        turned = {**inputs, "layers.0.k": inputs["layers.0.k_pre"]}
        self.assertTrue(np.array_equal(oracle_knorm.run(inputs, {}, 30)["layers.0.indices"],
                                       oracle_knorm.run(turned, {}, 30)["layers.0.indices"]))

    def test_skipped_layers_and_short_prompts_are_identity(self):
        inputs = problem(tokens=80, steps=0)
        skipped = oracle_knorm.run(inputs, {"skip_layers": [1]}, 30)
        self.assertEqual([skipped[f"layers.{i}.k"].shape[1] for i in (0, 1)], [30, 80])
        self.assertEqual(oracle_knorm.run(inputs, {"prune_after": 81}, 30)["layers.0.k"].shape[1], 80)


class SnapKv(unittest.TestCase):
    def test_size_and_window(self):
        inputs = problem(tokens=120, group=4, steps=0)
        for budget in (1, 63, 64, 65, 119, 120, 200):
            rows = oracle_snapkv.run(inputs, {}, budget)["layers.0.indices"]
            self.assertEqual(rows.shape[1], min(120, budget))
            newest = min(64, budget)
            self.assertTrue((rows[:, -newest:] == np.arange(120 - newest, 120)).all())

    def test_kernel_one_has_no_pooling_and_follows_a_permuted_prefix(self):
        inputs = problem(tokens=120, group=4, steps=0)
        p = {"window": 20, "kernel": 1}
        rows = oracle_snapkv.run(inputs, p, 60)["layers.0.indices"]
        layer = layers_of(inputs)[0]
        raw = prompt_probabilities(layer, 20)[:, :, :100].sum(axis=1).reshape(2, 4, 100).mean(axis=1)
        np.testing.assert_allclose(oracle_snapkv.run(inputs, p, 60)["layers.0.scores"][:, :100], raw, rtol=1e-6)
        order = np.concatenate([np.random.default_rng(6).permutation(100), np.arange(100, 120)])
        mixed = {**inputs, **{f"layers.0.{n}": inputs[f"layers.0.{n}"][:, order] for n in "kv"}}
        found = oracle_snapkv.run(mixed, p, 60)["layers.0.indices"]
        for head in range(2):
            self.assertEqual(sorted(order[found[head]]), rows[head].tolist())

    def test_scores_of_the_window_are_forced(self):
        scores = oracle_snapkv.run(problem(tokens=120, steps=0), {}, 80)["layers.0.scores"]
        self.assertTrue(np.isinf(scores[:, 56:]).all() and np.isfinite(scores[:, :56]).all())


class PyramidKv(unittest.TestCase):
    def test_budgets(self):
        for layers in (2, 3, 4, 7, 32):
            for tokens, budget, window, beta in ((900, 110, 64, 20), (300, 110, 16, 20), (260, 100, 32, 3),
                                                 (156, 110, 32, 20), (200, 100, 8, 2)):
                b = oracle_pyramidkv.prefix_budgets(layers, tokens, budget, window, beta)
                mean = budget - window
                self.assertTrue(all(x >= y for x, y in zip(b, b[1:])))
                self.assertLessEqual(b[0], tokens - window)
                self.assertGreaterEqual(sum(b), layers * mean)
                self.assertLess(sum(b), layers * mean + max(1, layers * (layers - 1) / 2))

    def test_beta_one_short_prompts_and_one_layer_are_uniform(self):
        self.assertEqual(oracle_pyramidkv.prefix_budgets(4, 900, 110, 64, 1), [46] * 4)
        self.assertEqual(oracle_pyramidkv.prefix_budgets(4, 155, 110, 32, 20), [78] * 4)
        self.assertEqual(oracle_pyramidkv.prefix_budgets(1, 900, 110, 64, 20), [46])

    def test_known_values(self):
        self.assertEqual(oracle_pyramidkv.prefix_budgets(3, 1000, 164, 64, 20), [195, 100, 5])
        self.assertEqual(oracle_pyramidkv.prefix_budgets(3, 210, 164, 64, 20), [146, 100, 54])


class H2o(unittest.TestCase):
    def test_probability_mass_length_and_recent(self):
        inputs = problem(tokens=60, group=4, steps=9)
        layer = layers_of(inputs)[0]
        np.testing.assert_allclose(prompt_probabilities(layer, 60).sum(axis=(1, 2)), 60)
        for budget in (1, 2, 7, 20):
            rows = oracle_h2o.run(inputs, {}, budget)["layers.0.indices"]
            self.assertEqual(rows.shape, (2, budget))
            recent = budget // 2
            if recent:
                self.assertTrue((rows[:, -recent:] == np.arange(69 - recent, 69)).all())

    def test_scores_hold_all_mass_before_a_cut(self):
        inputs = problem(tokens=60, group=4, steps=0)
        scores = oracle_h2o.run(inputs, {}, 1)["layers.0.scores"]
        np.testing.assert_allclose(scores.sum(axis=1), 60 * 4, rtol=1e-6)

    def test_evicted_entry_is_the_lightest_of_the_older_ones(self):
        acc = np.array([5.0, 1.0, 4.0, 0.5, 9.0, 0.1, 0.2])
        self.assertEqual(oracle_h2o.heavy_and_recent(acc, 6).tolist(), [0, 1, 2, 4, 5, 6])
        self.assertEqual(oracle_h2o.heavy_and_recent(acc, 5).tolist(), [0, 2, 4, 5, 6])


class Tova(unittest.TestCase):
    def test_decode_removes_the_least_attended_entry(self):
        inputs = problem(tokens=20, group=4, steps=12, queries=0)
        result = oracle_tova.run(inputs, {"protect_newest": False}, 20)
        layer, rows = layers_of(inputs)[0], list(range(20))
        every_k = np.concatenate([layer.k, layer.step_k], axis=1)
        for step in range(12):
            rows.append(20 + step)
            weights = np.zeros(21)
            for head in range(8):
                logits = every_k[head // 4][rows] @ layer.step_q[head, step] / math.sqrt(32)
                weights += np.exp(logits) / np.exp(logits).sum()
            rows.pop(int(weights.argmin()))
        self.assertEqual(result["layers.0.indices"].tolist(), [rows, rows])

    def test_newest_is_protected_and_one_set_serves_the_layer(self):
        result = oracle_tova.run(problem(tokens=50, group=4, steps=5), {}, 1)
        self.assertEqual(result["layers.0.indices"].tolist(), [[54], [54]])
        rows = oracle_tova.run(problem(tokens=50, group=4, steps=0), {}, 17)["layers.1.indices"]
        self.assertEqual(rows.shape, (2, 17))
        self.assertTrue((rows[0] == rows[1]).all() and rows[0, -1] == 49)


class AdaSnapKv(unittest.TestCase):
    def setUp(self):
        self.layer = layers_of(problem(tokens=150, heads=4, group=2, steps=0))[0]
        self.votes = oracle_ada_snapkv.window_scores(self.layer, oracle_ada_snapkv.DEFAULTS)

    def test_totals_floors_and_extremes(self):
        for mean in (1, 10, 33, 60):
            for floor in (0.0, 0.2, 0.5, 1.0):
                b = oracle_ada_snapkv.head_budgets(self.votes, mean, floor, False)
                self.assertLessEqual(abs(sum(b) - 4 * mean), 4 + 4 * floor)
                self.assertTrue(all(x >= math.floor(floor * mean) for x in b))
            self.assertEqual(oracle_ada_snapkv.head_budgets(self.votes, mean, 1.0, False), [mean] * 4)

    def test_mass_is_at_least_that_of_uniform_budgets(self):
        b = oracle_ada_snapkv.head_budgets(self.votes, 30, 0.0, False)
        ranked = -np.sort(-self.votes, axis=1)
        self.assertGreaterEqual(sum(ranked[h, :n].sum() for h, n in enumerate(b)), ranked[:, :30].sum())
        self.assertNotEqual(b, [30] * 4)

    def test_rounding_is_half_to_even(self):
        scores = np.array([[9.0, 8, 7, 0.1, 0.1, 0.1], [6.0, 0.1, 0.1, 0.1, 0.1, 0.1]])
        self.assertEqual(oracle_ada_snapkv.head_budgets(scores, 2, 0.5, False), [2, 2])
        self.assertEqual(oracle_ada_snapkv.head_budgets(scores, 2, 0.0, False), [3, 1])

    def test_window_stays_in_every_head(self):
        result = oracle_ada_snapkv.run(problem(tokens=150, steps=0), {}, 60)
        for rows in heads(result, "indices"):
            self.assertEqual(rows[-32:].tolist(), list(range(118, 150)))


class Kivi(unittest.TestCase):
    def test_counts_of_coded_rows(self):
        for tokens in (1, 31, 32, 33, 70, 96):
            for steps in (0, 1, 40):
                result = oracle_kivi.run(problem(tokens=tokens, steps=steps), {})
                n = tokens + steps
                k, v = result.get("layers.0.k.codes"), result.get("layers.0.v.codes")
                self.assertEqual(0 if k is None else k.shape[1], n // 32 * 32)
                self.assertEqual(0 if v is None else v.shape[1], max(n - 32, 0))

    def test_tails_are_exact_and_codes_decode_to_the_rows(self):
        inputs = problem(tokens=70, steps=0, dtype="F16")
        result = oracle_kivi.run(inputs, {})
        self.assertTrue(np.array_equal(result["layers.0.k"][:, 64:], inputs["layers.0.k"][:, 64:]))
        self.assertTrue(np.array_equal(result["layers.0.v"][:, 38:], inputs["layers.0.v"][:, 38:]))
        codes, scales, zeros = (result[f"layers.0.k.{n}"].astype(np.float32) for n in ("codes", "scales", "zeros"))
        self.assertEqual(scales.shape, (2, 2, 32))
        spread = np.repeat(scales, 32, axis=1), np.repeat(zeros, 32, axis=1)
        self.assertTrue(np.array_equal(codes * spread[0] + spread[1], result["layers.0.k"][:, :64]))
        error = np.abs(result["layers.0.k"][:, :64] - inputs["layers.0.k"][:, :64])
        self.assertTrue((error <= spread[0] * 0.502).all())

    def test_values_have_a_shorter_last_group(self):
        result = oracle_kivi.run(problem(tokens=80, steps=0), {"group_size": 24, "residual_length": 48})
        self.assertEqual(result["layers.0.v.scales"].shape, (2, 32, 2))
        self.assertEqual(result["layers.0.k.scales"].shape, (2, 2, 32))

    def test_a_step_reads_its_tail_before_coding_it(self):
        inputs = problem(tokens=31, steps=1, queries=0)
        dense, coded = oracle_dense.run(inputs, {}), oracle_kivi.run(inputs, {})
        self.assertTrue(np.array_equal(dense["layers.0.step.out"], coded["layers.0.step.out"]))
        self.assertEqual(coded["layers.0.k.codes"].shape[1], 32)

    def test_codes_do_not_depend_on_when_rows_arrive(self):
        whole = problem(tokens=110, steps=0)
        split = {name: values for name, values in whole.items() if not name.endswith(("queries", ".q"))}
        for name in ("layers.0.k", "layers.0.v", "layers.1.k", "layers.1.v"):
            split[name], split[name[:-1] + "step" + name[-2:]] = whole[name][:, :70], whole[name][:, 70:]
        for layer in (0, 1):
            split[f"layers.{layer}.step.q"] = np.zeros((2, 40, 32), np.float32)
        one, other = oracle_kivi.run(whole, {}), oracle_kivi.run(split, {})
        for name in ("k.codes", "k.scales", "v.codes", "v.zeros", "k", "v"):
            self.assertTrue(np.array_equal(one["layers.1." + name], other["layers.1." + name]), name)


class SnapKvKivi(unittest.TestCase):
    def test_selection_is_snapkv_and_codes_are_kivi_of_the_kept_rows(self):
        inputs = problem(tokens=150, group=4, steps=0)
        both, chosen = oracle_snapkv_kivi.run(inputs, {}, 100), oracle_snapkv.run(inputs, {}, 100)
        self.assertTrue(np.array_equal(both["layers.0.indices"], chosen["layers.0.indices"]))
        kept = {name: chosen[name] for name in ("layers.0.k", "layers.0.v", "layers.1.k", "layers.1.v")}
        alone = oracle_kivi.run(kept, {})
        for name in ("k.codes", "k.scales", "k.zeros", "v.codes", "v.scales", "v.zeros", "k", "v"):
            self.assertTrue(np.array_equal(both["layers.0." + name], alone["layers.0." + name]), name)

    def test_budget_of_all_rows_is_kivi(self):
        inputs = problem(tokens=90, group=4, steps=10)
        both, alone = oracle_snapkv_kivi.run(inputs, {}, 100), oracle_kivi.run(inputs, {})
        self.assertTrue(np.array_equal(both["layers.0.step.out"], alone["layers.0.step.out"]))


class QuaRot(unittest.TestCase):
    def test_rotation_without_quantization_changes_nothing(self):
        layer, matrix = layers_of(problem(tokens=40, steps=0))[0], hadamard(32)
        plain = attend(layer.q[0, -1], layer.k[0], layer.v[0])[0]
        turned = attend(layer.q[0, -1] @ matrix, layer.k[0] @ matrix, layer.v[0] @ matrix)[0] @ matrix
        np.testing.assert_allclose(turned, plain, atol=1e-12)

    def test_every_row_is_coded_and_the_error_falls_with_bits(self):
        inputs, errors = problem(tokens=40, steps=5), []
        for bits in (2, 4, 8):
            result = oracle_quarot.run(inputs, {"bits": bits})
            self.assertEqual(result["layers.0.k.codes"].shape, (2, 45, 32))
            self.assertLess(result["layers.0.k.codes"].max(), 2 ** bits)
            errors.append(relative_l2(result["layers.0.v"][:, :40], inputs["layers.0.v"]))
        self.assertTrue(errors[0] > 3 * errors[1] > 30 * errors[2])

    def test_a_step_reads_its_own_row_exactly(self):
        inputs = problem(tokens=1, steps=1, queries=0)
        matrix = oracle_quarot.run(inputs, {"bits": 8})
        keys, values = matrix["layers.0.k"][0].astype(float), matrix["layers.0.v"][0].astype(float)
        keys[1], values[1] = inputs["layers.0.step.k"][0, 0], inputs["layers.0.step.v"][0, 0]
        out = attend(inputs["layers.0.step.q"][0, 0].astype(float), keys, values)[0]
        np.testing.assert_allclose(matrix["layers.0.step.out"][0, 0], out, atol=1e-5)

    def test_groups_of_channels(self):
        result = oracle_quarot.run(problem(tokens=9, steps=0), {"group": 16})
        self.assertEqual(result["layers.0.k.scales"].shape, (2, 9, 2))


class Pca(unittest.TestCase):
    def test_full_rank_is_dense(self):
        inputs = problem(tokens=60, group=4, steps=4)
        full = oracle_pca.run(inputs, {"rank_k": 32, "rank_v": 32})
        dense = oracle_dense.run(inputs, {})
        self.assertLess(relative_l2(full["layers.0.step.out"], dense["layers.0.step.out"]), 1e-6)

    def test_basis_is_orthonormal_and_ordered(self):
        rows = layers_of(problem(tokens=90, steps=0))[0].k[0]
        mean, basis = oracle_pca.basis_of(rows, 32)
        np.testing.assert_allclose(basis.T @ basis, np.eye(32), atol=1e-10)
        variances = ((rows - mean) @ basis).var(axis=0)
        self.assertTrue((np.diff(variances) <= 1e-9).all())

    def test_error_falls_with_rank(self):
        inputs = problem(tokens=90, steps=0)
        errors = [relative_l2(oracle_pca.run(inputs, {"rank_k": r, "rank_v": r})["layers.0.v"], inputs["layers.0.v"])
                  for r in (4, 8, 16, 32)]
        self.assertEqual(errors, sorted(errors, reverse=True))

    def test_a_constant_added_to_all_keys_leaves_the_output(self):
        inputs = problem(tokens=90, steps=0)
        moved = {**inputs, "layers.0.k": inputs["layers.0.k"] + np.float32(0.5)}
        one, other = oracle_pca.run(inputs, {}), oracle_pca.run(moved, {})
        self.assertLess(relative_l2(other["layers.0.out"], one["layers.0.out"]), 1e-5)

    def test_one_row_is_its_own_mean(self):
        inputs = problem(tokens=1, steps=0)
        self.assertTrue(np.array_equal(oracle_pca.run(inputs, {})["layers.0.k"], inputs["layers.0.k"]))


class TomeMerge(unittest.TestCase):
    def test_keys_and_choice_are_those_of_the_base_scorer(self):
        inputs = problem(tokens=100, group=4, steps=6)
        merged, plain = oracle_tome_merge.run(inputs, {}, 40), oracle_knorm.run(inputs, {}, 40)
        for name in ("indices", "k", "scores"):
            self.assertTrue(np.array_equal(merged["layers.0." + name], plain["layers.0." + name]), name)
        self.assertFalse(np.array_equal(merged["layers.0.v"], plain["layers.0.v"]))
        self.assertTrue((merged["layers.0.counts"][:, -6:] == 1).all())

    def test_nothing_allowed_is_plain_eviction(self):
        inputs = problem(tokens=100, steps=0)
        merged = oracle_tome_merge.run(inputs, {"similarity_threshold": 1.01}, 40)
        self.assertTrue(np.array_equal(merged["layers.0.v"], oracle_knorm.run(inputs, {}, 40)["layers.0.v"]))
        self.assertTrue((merged["layers.0.counts"] == 1).all())

    def test_merge_matches_scalar_code(self):
        layer = layers_of(problem(tokens=30, dim=8, steps=0))[0]
        keys, values, kept = layer.k[0], layer.v[0], np.arange(0, 30, 3)
        got, counts = oracle_tome_merge.merge_values(keys, values, kept, 0.3, 1.0)
        total, mixed, held = {t: 0.0 for t in kept}, {t: values[t].copy() for t in kept}, {t: 1 for t in kept}
        for e in set(range(30)) - set(kept.tolist()):
            cosine = [keys[e] @ keys[t] / np.linalg.norm(keys[e]) / np.linalg.norm(keys[t]) for t in kept]
            best, u = kept[int(np.argmax(cosine))], max(cosine)
            if u >= 0.3:
                size = np.linalg.norm(values[e])
                w = u * size / (size + np.linalg.norm(values[best]) + 1e-6)
                total[best] += w
                mixed[best] += w * values[e]
                held[best] += 1
        np.testing.assert_allclose(got, [mixed[t] / (1 + total[t]) for t in kept], rtol=1e-12)
        self.assertEqual(counts.tolist(), [held[t] for t in kept])

    def test_fraction_admits_the_most_similar_share(self):
        similarity = np.array([0.9, 0.1, 0.5, 0.7, 0.3])
        self.assertEqual(oracle_tome_merge.allowed(similarity, 0.0, 0.5).tolist(), [True, False, True, True, False])
        self.assertEqual(oracle_tome_merge.allowed(similarity, 0.6, 1.0).tolist(), [True, False, False, True, False])

    def test_identical_rows_merge_to_the_same_value(self):
        keys = np.ones((6, 4))
        got, counts = oracle_tome_merge.merge_values(keys, keys * 3, np.array([0, 1]), 0.0, 1.0)
        np.testing.assert_allclose(got, 3.0)
        self.assertEqual(counts.tolist(), [5, 1])


if __name__ == "__main__":
    unittest.main()
