# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Rounding of budgets, and which roundings count as fragile."""
import unittest

import numpy as np

from integer_budgets import by_largest_remainder, rounded
from oracle_support import recorded_gaps


def gaps_of(function, *arguments):
    with recorded_gaps() as gaps:
        function(*arguments)
        return list(gaps)


class IntegerBudgets(unittest.TestCase):
    def test_halves_go_to_even(self):
        self.assertEqual(rounded([0.5, 1.5, 2.4, 2.6, 3.0]).tolist(), [0, 2, 2, 3, 3])

    def test_largest_remainders_then_lower_numbers(self):
        self.assertEqual(by_largest_remainder(np.array([1.2, 3.5, 2.3]), 7).tolist(), [1, 4, 2])
        self.assertEqual(by_largest_remainder(np.array([1.25, 3.25, 2.25, 0.25]), 7).tolist(), [2, 3, 2, 0])
        self.assertEqual(by_largest_remainder(np.array([3 - 1e-12, 2.0, 4.0]), 9).tolist(), [3, 2, 4])

    def test_near_a_boundary_is_fragile_but_on_it_is_not(self):
        self.assertEqual(gaps_of(rounded, [2.50001, 7.2]), [0.0])
        self.assertEqual(gaps_of(rounded, [2.5, 7.2]), [])
        self.assertEqual(gaps_of(by_largest_remainder, np.array([1.30002, 1.3, 1.39998]), 4), [])
        self.assertEqual(gaps_of(by_largest_remainder, np.array([1.3, 1.30002, 1.4]), 5), [0.0])
        self.assertEqual(gaps_of(by_largest_remainder, np.array([1.3, 1.3, 1.4]), 5), [])
        self.assertEqual(gaps_of(by_largest_remainder, np.array([1.99999, 1.3, 1.71001]), 5), [0.0])


if __name__ == "__main__":
    unittest.main()
