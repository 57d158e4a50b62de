# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Methods whose rows are coded a block at a time, in numpy, from the texts at the top of their files.

  blocks.py --kvasir build/bin/kvasir --method square-tiles [--target reference]

Prints `PASS n cases of METHOD`, or the first differences and exit code 1.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "oracle"))
from cases import Case, make_inputs  # noqa: E402
from compare import compare  # noqa: E402
from oracle_support import (Coded, RowCache, act_of, attend_heads, layers_of, parameters, to_act, uqa,  # noqa: E402
                            write_layer)
from safetensors_io import write_safetensors  # noqa: E402

DEFAULTS = {"square-tiles": {"k_bits": 4, "rows": 4, "columns": 8}, "tame-blocks": {"share": 0.75},
            "rows-of-all-heads": {"k_bits": 4, "v_bits": 2, "columns": 8}}
CASES = {
    "square-tiles": [
        Case("g1-f32", tokens=70, steps=20),
        Case("g4-f16", group=4, tokens=101, steps=13, dtype="F16", dim=64),
        Case("bf16", tokens=64, steps=3, dtype="BF16"),
        Case("three-bits", tokens=50, steps=5, params={"k_bits": 3, "rows": 2, "columns": 24}),
        Case("ragged-groups", tokens=50, steps=5, params={"k_bits": 2, "rows": 8, "columns": 20}, dim=48),
        Case("single-columns", tokens=50, steps=5, params={"k_bits": 8, "rows": 8, "columns": 1}),
        Case("short", tokens=5, steps=12),
    ],
    "tame-blocks": [
        Case("g1-f32", tokens=70, steps=20),
        Case("g4-f16", group=4, tokens=101, steps=13, dtype="F16", dim=64),
        Case("cut-hard", tokens=64, steps=3, params={"share": 0.1}),
        Case("not-cut", tokens=64, steps=10, params={"share": 1.0}, dtype="F16"),
        Case("short", tokens=5, steps=14),
    ],
    "rows-of-all-heads": [
        Case("g1-f32", tokens=70, steps=20),
        Case("g4-f16", group=4, tokens=101, steps=13, dtype="F16", dim=64),
        Case("bf16", tokens=64, steps=3, dtype="BF16"),
        Case("three-bits", tokens=50, steps=5, params={"k_bits": 3, "v_bits": 3, "columns": 24}),
        Case("eight-bits", group=4, tokens=50, steps=5, params={"k_bits": 8, "v_bits": 8, "columns": 20}, dim=48),
        Case("two-bits", tokens=50, steps=5, params={"k_bits": 2, "v_bits": 4, "columns": 256}),
        Case("one-token", tokens=1, steps=9),
    ],
}
SHARED = ("rows-of-all-heads",)  # methods with one list of rows, coded for all heads together


@dataclass
class Column:
    """How one side is stored; rows and columns of a tile, None: all."""
    bits: int
    rows: int
    columns: int
    keep: int
    block: int
    encoder: object = None


def columns_of(method, p, act):
    if method == "rows-of-all-heads":
        return {"k": Column(p["k_bits"], 1, p["columns"], 6, 1), "v": Column(p["v_bits"], 2, None, 3, 4)}
    if method == "square-tiles":
        return {"k": Column(p["k_bits"], p["rows"], p["columns"], 4, 8), "v": Column(2, 6, None, 0, 6)}
    return {"k": Column(4, 8, 16, 8, 8, lambda block: to_act(tamed(block, p["share"]), act))}


def tamed(block, share):
    """[b, 1, D]: the block without its mean, each row cut to the share quantile of its magnitudes."""
    centred = (block - block.mean(axis=0)).astype(np.float32).astype(np.float64)
    limit = np.quantile(np.abs(centred), np.float32(share), axis=2, keepdims=True)
    return np.clip(centred, -limit, limit)


class CodedSide:
    """Rows [n, heads, D] of one head, or of heads that are coded together: what a reader sees, and the parts that are coded."""

    def __init__(self, rows, column):
        self.seen, self.column, self.coded = rows.copy(), column, 0
        self.codes, self.scales, self.zeros = [], [], []

    def append(self, row):
        self.seen = np.concatenate([self.seen, row[None]])

    def commit(self):
        c = self.column
        while c is not None and len(self.seen) - self.coded >= c.keep + c.block:
            rows = slice(self.coded, self.coded + c.block)
            block = self.seen[rows] if c.encoder is None else c.encoder(self.seen[rows])
            self.seen[rows] = self._code(block)
            self.coded += c.block

    def _code(self, block):
        rows, columns = self.column.rows, self.column.columns or block.shape[2]
        decoded, codes = np.zeros(block.shape), np.zeros(block.shape, np.uint8)
        for first in range(0, len(block), rows):
            scales, zeros = [], []
            for start in range(0, block.shape[2], columns):
                tile = block[first:first + rows, :, start:start + columns]
                code, scale, low, value = uqa(tile.reshape(1, -1), self.column.bits)
                codes[first:first + rows, :, start:start + columns] = code.reshape(tile.shape)
                decoded[first:first + rows, :, start:start + columns] = value.reshape(tile.shape)
                scales.append(scale[0])
                zeros.append(low[0])
            self.scales.append(scales)
            self.zeros.append(zeros)
        self.codes.append(codes)
        return decoded


def run(method, inputs, params):
    """All prompt rows are coded when the prompt ends, rows of steps when their block is complete."""
    p = parameters(DEFAULTS[method], inputs, params)
    result = {}
    for layer in layers_of(inputs):
        columns, cache = columns_of(method, p, layer.act), RowCache(layer)
        together = layer.heads if method in SHARED else 1
        sides = {name: [CodedSide(np.stack(getattr(cache, name)[head:head + together], axis=1), columns.get(name))
                        for head in range(0, layer.heads, together)] for name in ("k", "v")}
        outputs = decode(layer, cache, sides, together)
        cache.k, cache.v = (per_head(sides[name], lambda side: side.seen) for name in ("k", "v"))
        coded = {name: Coded(per_head(sides[name], lambda side: np.concatenate(side.codes)),
                             [np.array(s.scales) for s in sides[name] for _ in range(together)],
                             [np.array(s.zeros) for s in sides[name] for _ in range(together)])
                 for name in columns if sides[name][0].coded}
        write_layer(result, layer, cache, step_out=outputs, coded=coded)
    return result


def per_head(sides, rows_of):
    """Of [n, heads, D] of every side, [n, D] for each head."""
    return [rows[:, head] for rows in map(rows_of, sides) for head in range(rows.shape[1])]


def decode(layer, cache, sides, together):
    """The steps' outputs: a row is exact in the step that appended it."""
    everything, outputs = sides["k"] + sides["v"], []
    for side in everything:
        side.commit()
    for step in range(layer.steps):
        cache.append(step)
        for number, head in enumerate(range(0, layer.heads, together)):
            sides["k"][number].append(layer.step_k[head:head + together, step])
            sides["v"][number].append(layer.step_v[head:head + together, step])
        keys, values = (per_head(sides[name], lambda side: side.seen) for name in ("k", "v"))
        outputs.append(attend_heads(layer.step_q[:, step], keys, values)[0])
        for side in everything:
            side.commit()
    return outputs


def check(options, case, folder):
    drawn = replace(case, query_rows=0, seed=3)
    drawn.inputs = make_inputs(drawn)
    source, output = (os.path.join(folder, name) for name in ("in.safetensors", "out.safetensors"))
    write_safetensors(source, drawn.inputs)
    command = [options.kvasir, "apply", os.path.join(HERE, options.method + ".mlir"), "--kv", source, "-o", output,
               "--attend", "--target", options.target]
    if options.target != "reference":
        command.append("--require-fused")
    for name, value in drawn.params.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        return [f"exit code {done.returncode}: {done.stderr.strip()[-600:]}"]
    return compare(output, run(options.method, drawn.inputs, drawn.params), act_of(drawn.inputs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvasir", default="kvasir")
    parser.add_argument("--method", choices=sorted(CASES), required=True)
    parser.add_argument("--target", default="cpu")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES[options.method]:
            differences = check(options, case, folder)
            failed += bool(differences)
            for line in differences[:4]:
                print(f"{case.name}: {line}")
    if failed:
        sys.exit(f"FAIL {failed} of {len(CASES[options.method])} cases of {options.method}")
    print(f"PASS {len(CASES[options.method])} cases of {options.method}")


if __name__ == "__main__":
    main()
