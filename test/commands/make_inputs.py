#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes a folder of dumped caches: one that is right (good.safetensors) and, each from it, the wrong ones that the
commands have to refuse. One layer, 8 query and 2 KV heads of 16 numbers, 64 tokens, the last 64 queries."""
import json
import struct
import sys
from pathlib import Path

import numpy as np

LAYERS, QUERY_HEADS, KV_HEADS, TOKENS, HEAD_DIM = 1, 8, 2, 64, 16
TYPES = {np.dtype("float32"): "F32", np.dtype("float16"): "F16", np.dtype("int32"): "I32", np.dtype("int64"): "I64"}


def encode(tensors, metadata=None):
    """The bytes of a safetensors file of `tensors` (name -> array)."""
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": TYPES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def good(tokens=TOKENS, queries=None):
    """One layer of keys, values and queries, from one seed."""
    rng = np.random.default_rng(7)
    queries = tokens if queries is None else queries
    shapes = {"k": (KV_HEADS, tokens), "v": (KV_HEADS, tokens), "q": (QUERY_HEADS, queries)}
    return {
        f"layers.0.{side}": rng.standard_normal((*shape, HEAD_DIM)).astype(np.float32) for side, shape in shapes.items()
    }


def without(name):
    """The right tensors less one."""
    return {key: array for key, array in good().items() if key != name}


def changed(name, array):
    """The right tensors with one replaced or added."""
    return {**good(), f"layers.0.{name}": array}


def with_nan():
    """A query row that is not a number."""
    query = good()["layers.0.q"].copy()
    query[:, -1, 3] = np.nan
    return changed("q", query)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    theta = {"rope_theta": "10000.0"}
    keys = good()["layers.0.k"]
    files = {
        "good": good(),
        "no_value": without("layers.0.v"),
        "no_query": without("layers.0.q"),
        "unknown_name": changed("keys", keys),
        "wrong_shape": changed("v", keys[:, :-1]),
        "wrong_rank": changed("k", keys[0]),
        "wrong_dtype": changed("k", keys.astype(np.int32)),
        "few_queries": good(queries=2),
        "nan_query": with_nan(),
        "no_tokens": good(tokens=0),
    }
    for name, tensors in files.items():
        (folder / f"{name}.safetensors").write_bytes(encode(tensors, theta))
    whole = encode(good(), theta)
    (folder / "short_header.safetensors").write_bytes(whole[:40])
    (folder / "short_data.safetensors").write_bytes(whole[:-64])
    (folder / "lying_length.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    (folder / "lying_offsets.safetensors").write_bytes(whole.replace(b'"data_offsets": [0, ', b'"data_offsets": [9, ', 1))
    (folder / "not_json.safetensors").write_bytes(whole[:8] + b"[" + whole[9:])


if __name__ == "__main__":
    main()
