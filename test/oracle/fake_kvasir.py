# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Stands in for the driver in test_conformance.py: answers `apply` with an oracle, after f32 noise.

METHOD is a shipped name, or a file `name / key = value ..`: a key that is a parameter changes its
default; `crash = 1` dies by a signal; `spoil = NAME` damages one output tensor.
"""
import argparse
import os
import sys

import numpy as np

from cases import METHODS, UNBUDGETED, oracle_of
from oracle_support import CALIB, resolve_budget
from safetensors_io import METADATA, read_safetensors, write_safetensors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["apply"])
    parser.add_argument("method")
    for option in ("--kv", "-o", "--budget", "--ratio", "--target", "--calib"):
        parser.add_argument(option)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--attend", action="store_true")
    options = parser.parse_args()
    name, settings = options.method, {}
    if name not in METHODS:
        with open(name, encoding="utf-8") as stream:
            lines = [line.split("//")[0].strip() for line in stream]
        name, settings = lines[0], dict(line.split(" = ") for line in lines[1:] if line)
    if settings.pop("crash", "0") != "0":
        os.abort()
    sys.exit(answer(options, name, settings))


def answer(options, name, settings):
    inputs = read_safetensors(options.kv)
    if options.calib:
        inputs[CALIB] = read_safetensors(options.calib)
    spoil = settings.pop("spoil", None)
    params = {**settings, **dict(pair.split("=") for pair in options.set)}
    tokens = inputs["layers.0.k"].shape[1]
    given = options.ratio or options.budget
    budget = given and resolve_budget(given, tokens, bool(options.ratio))
    if (given is not None and budget == 0) or (name in UNBUDGETED and given is not None):
        return refuse("--budget: keeps 0 tokens, or the method takes none")
    if int(params.get("residual_length", 32)) % int(params.get("group_size", 32)):
        return refuse("residual_length: expected a multiple of group_size")
    try:
        result = oracle_of(name).run(inputs, params, budget)
    except ValueError as error:
        return refuse(str(error))
    rng = np.random.default_rng(1)
    for key, values in result.items():
        if not key.startswith("__") and key.split(".")[-1] in ("out", "lse"):
            result[key] = (values * (1 + 1e-7 * rng.standard_normal(values.shape))).astype(np.float32)
    if spoil:
        result[spoil] = result[spoil] + np.ones(1, result[spoil].dtype)
    write_safetensors(options.o, {key: values for key, values in result.items() if key == METADATA or key[0] != "_"})
    return 0


def refuse(message):
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
