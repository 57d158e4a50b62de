# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ThinK and the scorers that span-fair eviction wraps keep what kvpress was recorded to keep (test/goldens/kvpress).

Oracles of whole methods with parity settings are held to the same records there.
"""
import json
import os
import unittest

import numpy as np

import oracle_fair
import oracle_think
from safetensors_io import METADATA, read_safetensors

GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "goldens", "kvpress")


def recorded(name):
    """Inputs of one model, what was kept, and a function case -> settings."""
    inputs, kept = (read_safetensors(os.path.join(GOLDENS, f"{name}-{file}.safetensors")) for file in ("inputs", "kept"))
    return {**inputs, METADATA: {}}, kept, lambda case: json.loads(kept[METADATA][f"case.{case}"])


class AgainstKvpress(unittest.TestCase):
    def test_scorers_with_one_span(self):
        cases = {"knorm-0.5": {"base": "knorm"}, "streaming-0.5": {"base": "streaming-llm"}, "tova-0.5": {"base": "tova"},
                 "observed-0.9": {"base": "h2o"}, "snapkv": {"base": "snapkv", "window": 16, "kernel": 5}}
        for inputs, kept, settings in map(recorded, ("g1", "g4")):
            tokens = inputs["layers.0.k"].shape[1]
            for case, params in cases.items():
                result = oracle_fair.run(inputs, params, int(tokens * (1 - settings(case)["compression_ratio"])))
                for layer in range(3):
                    np.testing.assert_array_equal(result[f"layers.{layer}.indices"], kept[f"{case}.{layer}.kept"])

    def test_channels(self):
        for inputs, kept, settings in map(recorded, ("g1", "g4")):
            for case in ("think", "think-one"):
                press = settings(case)
                params = {"ratio": press["key_channel_compression_ratio"], "window": press["window_size"], "recent": 0}
                result = oracle_think.run(inputs, params)
                for layer in range(3):
                    keys = result[f"layers.{layer}.k"]
                    have = [np.flatnonzero((head != 0).any(axis=0)) for head in keys]
                    np.testing.assert_array_equal(have, kept[f"{case}.{layer}.channels"])


if __name__ == "__main__":
    unittest.main()
