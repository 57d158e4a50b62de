# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The cases of extra_cases.py: distinct, for parameters that exist, drawable, and telling."""
import unittest
from dataclasses import replace

import numpy as np

import extra_cases
import oracle_fastgen
import oracle_support
from cases import Case, cases_for, expected, generate, make_inputs, oracle_of


class ExtraCases(unittest.TestCase):
    def test_names_are_distinct_and_parameters_exist(self):
        for method in extra_cases.NAMES:
            cases = cases_for(method)
            names = [case.name for case in cases]
            self.assertEqual(len(names), len(set(names)), method)
            for case in cases:
                self.assertLessEqual(set(case.params), set(oracle_of(method).DEFAULTS), f"{method} {case.name}")

    def test_parameters_change_the_result(self):
        idle = {"no-draft", "ratio-0", "rho-1", "recent-100", "waits", "interval-2", "list-too-long",
                "list-outside"}
        for method in extra_cases.NAMES:
            for name, fields in extra_cases.MORE[method][:2]:
                case = next(c for c in cases_for(method) if c.name == name)
                own = fields.get("params")
                if not own or name in idle or method == "shotkv":
                    continue
                drawn, result = generate(method, replace(case, query_rows=None))
                common = extra_cases.NEEDS.get(method, {}).get("params", {})
                drawn.params = dict(common)
                plain = expected(method, drawn)
                same = result.keys() == plain.keys() and all(
                    np.array_equal(result[key], plain[key]) for key in result if not key.startswith("__"))
                self.assertFalse(same, f"{method} {name}")

    def test_query_heads_of_their_own_are_kv_heads_without_a_group(self):
        for method in ("dynamickv", "think", "laq", "h2o-ring", "observed-attention"):
            case = replace(next(c for c in cases_for(method) if c.name == "query-heads"), query_rows=None)
            case.inputs = make_inputs(case)
            result = expected(method, case)
            case.inputs = {name: np.repeat(values, 4, axis=0) if name.endswith((".k", ".v")) else values
                           for name, values in case.inputs.items()}
            case.params = {name: value for name, value in case.params.items() if name != "granularity"}
            self.assertEqual(result["layers.1.indices"].shape[0], 8)
            for name, values in expected(method, case).items():
                if not name.startswith("__"):
                    self.assertTrue(np.array_equal(values, result[name]), f"{method} {name}")

    def test_cases_of_policies_show_each_beside_another(self):
        mixed = set()
        for case in cases_for("fastgen"):
            drawn, result = generate("fastgen", case)
            if result is None or not drawn.inputs.get("classes", np.zeros(1)).any():
                continue
            p = oracle_support.parameters(oracle_fastgen.DEFAULTS, drawn.inputs, drawn.params)
            for layer in oracle_support.layers_of(drawn.inputs):
                policies = {head.policy for head in oracle_fastgen.profile(layer, drawn.inputs["classes"], p)}
                mixed |= policies if len(policies) > 1 else set()
        self.assertEqual(mixed, {0, 1, 2, 3, 4})

    def test_calls_say_what_parameters_and_classes_say(self):
        tensors = extra_cases.as_called("shotkv", {"shots": [3, 5, 5, 8]}, {}, 10)[1]
        self.assertEqual(tensors["request.shots"].tolist(), [3, 5, 8, 10])
        self.assertEqual(tensors["request.keep"].tolist(), [1, 1, 1, 0, 0, 0, 0, 0, 1, 1])
        self.assertEqual(extra_cases.as_called("shotkv", {}, {}, 3)[1]["request.shots"].tolist(), [3])
        tensors = extra_cases.as_called("fastgen", {}, {"classes": np.array([0, 1, 2, 0, 1, 2])}, 6)[1]
        kinds = np.isin(tensors["ids"], tensors["request.special"]) + 2 * np.isin(tensors["ids"],
                                                                                   tensors["request.punctuation"])
        self.assertEqual(kinds.tolist(), [0, 1, 2, 0, 1, 2])

    def test_extra_inputs_leave_the_others_as_they_are(self):
        plain = make_inputs(Case("a", tokens=30, steps=4))
        more = make_inputs(Case("a", tokens=30, steps=4, task_rows=3, draft_rows=2, classes=True))
        for name, values in plain.items():
            if name.startswith("layers"):
                self.assertTrue(np.array_equal(values, more[name]))
        self.assertEqual(sorted(set(more) - set(plain)), ["classes"] + sorted(
            f"layers.{i}.{name}" for i in range(2) for name in ("task.q", "task.k", "rollout.q")))
        self.assertEqual((more["classes"].shape, more["layers.1.task.k"].shape, more["layers.1.rollout.q"].shape),
                         ((34,), (2, 3, 32), (2, 2, 32)))


if __name__ == "__main__":
    unittest.main()
