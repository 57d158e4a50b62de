# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of FastGen, asserted of its oracle."""
import math
import unittest

import numpy as np

import oracle_dense
import oracle_fastgen as fastgen
from oracle_support import by_group, layers_of, prompt_probabilities
from small_inputs import first_steps, problem

P = fastgen.DEFAULTS


def classes_of(inputs, seed=8):
    """The inputs with a few special and punctuation tokens, in the prompt and in the steps."""
    layer = layers_of(inputs)[0]
    rng = np.random.default_rng(seed)
    kinds = rng.choice([0, 1, 2], size=layer.tokens + layer.steps, p=[0.8, 0.08, 0.12]).astype(np.uint8)
    return {**inputs, "classes": kinds}


def rows_of(result, layer=0):
    whole = result.get(f"layers.{layer}.indices")
    return list(whole) if whole is not None else [result[f"layers.{layer}.indices.{h}"] for h in range(2)]


class FastGen(unittest.TestCase):
    def setUp(self):
        self.inputs = classes_of(problem(steps=12))
        self.kinds = self.inputs["classes"]
        self.layer = layers_of(self.inputs)[0]
        self.mean = by_group(prompt_probabilities(self.layer, 140), 2).mean(axis=1)

    def run_at(self, threshold, count=12, **params):
        return fastgen.run(first_steps(self.inputs, count), {"recovery": threshold, **params})

    def test_recovered_mass_never_falls_along_the_policies(self):
        for rows in self.mean:
            mass = fastgen.recovered(rows, fastgen.prompt_masks(rows, self.kinds[:140], P))
            self.assertTrue((np.diff(mass) >= -1e-12).all())
            self.assertAlmostEqual(mass[4], 1.0, places=12)
            by_hand = np.mean([sum(rows[i, j] for j in range(i + 1) if j < 4 or self.kinds[j] == 1)
                               for i in range(140)])
            self.assertAlmostEqual(mass[0], by_hand, places=12)

    def test_thresholds_at_the_ends(self):
        special = np.flatnonzero((np.arange(140) < 4) | (self.kinds[:140] == 1))
        for rows in rows_of(self.run_at(0.0, 0)):
            self.assertTrue(np.array_equal(rows, special))
        full, dense = self.run_at(1.1), oracle_dense.run(self.inputs, {})
        for name in ("k", "step.out", "out"):
            self.assertTrue(np.array_equal(full[f"layers.1.{name}"], dense[f"layers.1.{name}"]))
        self.assertEqual(fastgen.first_adequate(np.array([0.1, 0.5, 0.7, 0.8, 1.0]), 0.7), 2)

    def test_special_and_global_tokens_are_in_every_head(self):
        must = np.flatnonzero((np.arange(152) < 4) | (self.kinds == 1))
        for threshold in (0.0, 0.3, 0.6, 0.75, 1.1):
            result = self.run_at(threshold)
            for layer in range(3):
                for rows in rows_of(result, layer):
                    self.assertTrue(np.isin(must, rows).all())

    def test_policies_differ_between_heads_of_one_prompt(self):
        found = set()
        for threshold in np.linspace(0, 1.05, 22):
            found |= {head.policy for head in fastgen.profile(self.layer, self.kinds, {**P, "recovery": threshold})}
        self.assertEqual(found, {0, 1, 2, 3, 4})

    def test_a_full_head_is_dense_beside_a_short_one(self):
        masses = [fastgen.recovered(rows, fastgen.prompt_masks(rows, self.kinds[:140], P))[3] for rows in self.mean]
        full = int(np.argmin(masses))
        result, dense = self.run_at(np.mean(masses)), oracle_dense.run(self.inputs, {})
        self.assertTrue(np.array_equal(rows_of(result)[full], np.arange(152)))
        self.assertLess(len(rows_of(result)[1 - full]), 152)
        heads = slice(2 * full, 2 * full + 2)
        self.assertTrue(np.array_equal(result["layers.0.step.out"][heads], dense["layers.0.step.out"][heads]))

    def heads_with(self, policy):
        rows = self.mean[0]
        masks = fastgen.prompt_masks(rows, self.kinds[:140], P)
        return fastgen.Head(policy, np.flatnonzero(masks[policy][-1]), self.kinds, rows, P), masks

    def test_prompt_sets(self):
        free = np.flatnonzero((np.arange(140) >= 4) & (self.kinds[:140] == 0))
        heavy = free[np.argsort(-(self.mean[0].sum(axis=0) / np.arange(140, 0, -1))[free])[:42]]
        head, masks = self.heads_with(2)
        self.assertTrue(np.isin(heavy, head.rows).all())
        self.assertEqual(len(head.rows), 140 - len(free) + 42)
        near = self.heads_with(3)[0].rows
        self.assertTrue(np.isin(np.arange(98, 140), near).all())
        self.assertTrue(np.array_equal(masks[3][60] & ~masks[2][60], (np.arange(140) > 18) & (np.arange(140) <= 60)
                                       & ~masks[2][60]))

    def test_what_each_policy_does_with_new_tokens(self):
        rng = np.random.default_rng(9)
        for policy in range(5):
            head = self.heads_with(policy)[0]
            for row in range(140, 152):
                kind = self.kinds[row]
                head.append(row, kind, rng.dirichlet(np.ones(len(head.rows) + 1)))
                before, victim = head.rows, head.victim()
                always = kind == 1 or policy == 4 or (kind == 2 and policy >= 1)
                if always:
                    self.assertIsNone(victim)
                elif policy < 2:
                    self.assertEqual(victim, len(before) - 1)
                if victim is not None:
                    head.drop(victim)
                if policy in (2, 3):
                    kinds = self.kinds[head.rows]
                    self.assertLessEqual(len(head.rows), 4 + (kinds > 0).sum() + 42 * (policy - 1))
                    self.assertIn(row, head.rows)
                if policy == 3:
                    self.assertTrue(np.isin(np.arange(row - 41, row + 1), head.rows).all())

    def test_the_victim_has_the_least_mean_attention(self):
        head = self.heads_with(2)[0]
        while True:
            row = int(head.rows[-1]) + 1 if head.rows[-1] >= 140 else 140
            head.append(row, 0, np.full(len(head.rows) + 1, 1.0 / (len(head.rows) + 1)))
            victim = head.victim()
            if victim is not None:
                break
        means = {j: np.nanmean(head.history[:, j]) for j in range(len(head.rows) - 1)
                 if head.rows[j] >= 4 and head.classes[j] == 0}
        self.assertEqual(victim, min(means, key=means.get))

    def simulate(self, rows, kinds, p, policy, steps, seed):
        """Entry sets after each step, one entry at a time. rows: prompt attention [T, T]."""
        tokens, rng = len(rows), np.random.default_rng(seed)
        fixed = [j for j in range(tokens) if j < p["global_tokens"] or kinds[j] > 0]
        means = {j: sum(rows[i][j] for i in range(j, tokens)) / (tokens - j) for j in range(tokens) if j not in fixed}
        heavy, local = math.ceil(p["heavy"] * tokens), max(1, int(p["local"] * tokens))
        held = set(fixed) | set(sorted(means, key=means.get, reverse=True)[:heavy])
        if policy == 3:
            held |= set(range(tokens - local, tokens))
        seen = {j: [rows[i][j] for i in range(j, tokens)] for j in held}
        yield sorted(held), None
        for row in range(tokens, tokens + steps):
            attention = rng.dirichlet(np.ones(len(held) + 1))
            yield None, attention
            held.add(row)
            seen[row] = []
            for j, value in zip(sorted(held), attention):
                seen[j].append(value)
            budget = p["global_tokens"] + sum(kinds[j] > 0 for j in held) + heavy + (local if policy == 3 else 0)
            near = set(range(row - local + 1, row + 1)) if policy == 3 else {row}
            loose = [j for j in held if kinds[j] == 0 and j >= p["global_tokens"] and j not in near]
            if kinds[row] == 0 and len(held) > budget:
                held.remove(min(loose, key=lambda j: np.mean(seen[j][-p["history"]:])))
            yield sorted(held), None

    def test_bounded_policies_entry_by_entry(self):
        for policy, start, first in ((2, 5, 3), (3, 30, 6), (2, 60, 9), (3, 69, 0)):
            tokens, p = 43, {**P, "heavy": 0.23, "local": 0.12, "global_tokens": first}
            kinds = self.kinds[start:start + tokens + 40].copy()
            kinds[first] = 0
            rows = self.mean[0][:tokens, :tokens]
            masks = fastgen.prompt_masks(rows, kinds[:tokens], p)
            head = fastgen.Head(policy, np.flatnonzero(masks[policy][-1]), kinds, rows, p)
            told = self.simulate(rows, kinds, p, policy, 40, start)
            self.assertEqual(head.rows.tolist(), next(told)[0])
            evicted = 0
            for row in range(tokens, tokens + 40):
                head.append(row, kinds[row], next(told)[1])
                victim = head.victim()
                if victim is not None:
                    head.drop(victim)
                    evicted += 1
                self.assertEqual(head.rows.tolist(), next(told)[0])
            self.assertGreater(evicted, 10)

    def test_history_is_capped(self):
        head = fastgen.Head(2, np.arange(140), self.kinds, self.mean[0], {**P, "history": 5})
        self.assertEqual(head.history.shape, (5, 140))
        head.append(140, 0, np.full(141, 1 / 141))
        self.assertEqual(head.history.shape, (5, 141))
        self.assertEqual(np.isnan(head.history).sum(axis=0).tolist()[-3:], [2, 3, 4])


if __name__ == "__main__":
    unittest.main()
