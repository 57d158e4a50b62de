# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The cases of table_cases.py: distinct, for parameters that exist, drawable, and telling."""
import unittest
from dataclasses import replace

import numpy as np

import table_cases
from cases import Case, cases_for, expected, generate, make_inputs, oracle_of
from compare import compare
from oracle_support import act_of


class TableCases(unittest.TestCase):
    def test_names_are_distinct_and_parameters_exist(self):
        for method in table_cases.NAMES:
            cases = cases_for(method)
            names = [case.name for case in cases]
            self.assertEqual(len(names), len(set(names)), method)
            for case in cases:
                self.assertLessEqual(set(case.params), set(oracle_of(method).DEFAULTS), f"{method} {case.name}")

    def test_tables_and_parameters_change_the_result(self):
        for method in table_cases.NAMES:
            for name, fields in table_cases.MORE[method]:
                case = next(c for c in cases_for(method) if c.name == name)
                drawn, result = generate(method, replace(case, query_rows=None))
                self.assertEqual(compare(result, result, act_of(drawn.inputs)), [])
                if case.tables:
                    bare = {key: values for key, values in drawn.inputs.items() if not key.startswith("table.")}
                    self.assertTrue(self._differs(method, drawn, bare, drawn.params, result), f"{method} {name}")
                if fields.get("params"):
                    common = table_cases.NEEDS.get(method, {})
                    self.assertTrue(self._differs(method, drawn, drawn.inputs, common, result), f"{method} {name}")

    @staticmethod
    def _differs(method, case, inputs, params, result):
        other = expected(method, replace(case, inputs=inputs, params=params))
        return other.keys() != result.keys() or any(
            not np.array_equal(other[key], result[key]) for key in result if not key.startswith("__"))

    def test_tables_leave_the_other_inputs_as_they_are(self):
        plain = make_inputs(Case("a", tokens=30, steps=4))
        for method in table_cases.NAMES:
            more = make_inputs(Case("a", tokens=30, steps=4, tables=method))
            for name, values in plain.items():
                if name.startswith("layers"):
                    self.assertTrue(np.array_equal(values, more[name]))
            self.assertTrue(set(more) - set(plain))
            self.assertTrue(all(name.startswith("table.") for name in set(more) - set(plain)))


if __name__ == "__main__":
    unittest.main()
