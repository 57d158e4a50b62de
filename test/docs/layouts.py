# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""docs/layouts.md tells where each code lies. Unpacks the stored bytes that `kvasir apply` exports as that page says, and
compares with the codes it exports beside them: layouts.py FILE [FILE ...].

Bits and tiles are those of the page's examples: 3 bits over channels, 2 bits over tokens in blocks of 32 rows.
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
from safetensors_io import METADATA, read_safetensors  # noqa: E402


def over_channels(packed, rows, width, bits):
    """A row is a little-endian bit string, code j at bits [bits j, bits (j + 1)), rounded up to a byte."""
    row_bytes = (width * bits + 7) // 8
    codes = np.zeros((rows, width), np.uint8)
    for row in range(rows):
        number = int.from_bytes(packed[row * row_bytes:(row + 1) * row_bytes].tobytes(), "little")
        codes[row] = [number >> bits * j & (1 << bits) - 1 for j in range(width)]
    return codes


def over_tokens(packed, rows, width, bits, tile=32):
    """tile rows are [tile bits / 32][width] words; row t is in word t // (32 / bits), at bits bits (t mod (32 / bits))."""
    words, per_word = packed.view(np.uint32).reshape(rows // tile, tile * bits // 32, width), 32 // bits
    codes = np.zeros((rows, width), np.uint8)
    for row in range(rows):
        block, t = divmod(row, tile)
        codes[row] = words[block, t // per_word] >> np.uint32(bits * (t % per_word)) & np.uint32((1 << bits) - 1)
    return codes


def check(path):
    """Compares every coded head of a file; returns how many there were."""
    tensors, heads = read_safetensors(path), 0
    for name in [n for n in tensors if n.endswith(".packed") or ".packed." in n]:
        layout = tensors[METADATA][name.split(".packed")[0] + ".layout"]
        packed, codes = tensors[name], tensors[name.replace(".packed", ".codes")]
        if codes.ndim == 2:
            packed, codes = packed[None], codes[None]
        for own, wanted in zip(packed, codes):
            rows, width = wanted.shape
            bits = 8 * own.size // wanted.size if layout == "lsb(token)" else 8 * (own.size // rows) // width
            unpacked = over_tokens(own, rows, width, bits) if layout == "lsb(token)" else over_channels(own, rows, width, bits)
            if not np.array_equal(unpacked, wanted):
                where = np.argwhere(unpacked != wanted)[0].tolist()
                sys.exit(f"{path}: {name} ({layout}, {bits} bits) unpacks to another code at {where}")
            print(f"{layout}, {bits} bits, {rows} rows")
            heads += 1
    return heads


if __name__ == "__main__":
    # The page's example by hand.
    assert over_channels(np.array([0xD5, 0x03, 0x8F], np.uint8), 1, 8, 3).tolist() == [[5, 2, 7, 1, 0, 6, 3, 4]]
    for file in sys.argv[1:]:
        if check(file) == 0:
            sys.exit(f"{file}: nothing is packed")
