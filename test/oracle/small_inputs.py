# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small seeded inputs for the oracles' own tests."""
from cases import Case, make_inputs


def problem(**fields):
    """Inputs of a small case: 3 layers, 2 KV heads, G = 2, T = 140, 6 decode steps unless given."""
    return make_inputs(Case("test", **{"tokens": 140, "group": 2, "layers": 3, "steps": 6, **fields}))


def first_steps(inputs, count):
    """The same inputs with only the first `count` decode steps."""
    return {name: values[:, :count] if ".step." in name else values for name, values in inputs.items()
            if count or ".step." not in name}
