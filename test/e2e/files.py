# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes the files of the end-to-end tests.

  files.py dump OUT                 a dump of 2 layers, 4 query heads, 2 KV heads, D = 64, f32, 150 tokens, 8 steps
  files.py hidden OUT               the same with layers.*.hidden
  files.py edit IN OUT OFFSET       a copy with one bit changed in the byte at OFFSET (negative: from the end)
  files.py truncate IN OUT SIZE     the first SIZE bytes (negative: all but so many)
  files.py newer IN OUT             a .kvx of a much newer format
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "oracle"))
from cases import Case, make_inputs
from safetensors_io import write_safetensors

VERSION_OFFSET = 8  # behind the magic, u32


def changed(source, output, change):
    with open(source, "rb") as stream:
        data = bytearray(stream.read())
    with open(output, "wb") as stream:
        stream.write(change(data))


def edited(data, offset):
    data[offset] ^= 1
    return data


def main():
    command, *words = sys.argv[1:]
    if command == "dump":
        write_safetensors(words[0], make_inputs(Case("dump", tokens=150, steps=8, group=2, dim=64, seed=7)))
    elif command == "hidden":
        tensors = make_inputs(Case("dump", tokens=150, steps=8, group=2, dim=64, seed=7))
        for layer in (0, 1):
            tensors[f"layers.{layer}.hidden"] = np.zeros((150, 8), np.float32)
        write_safetensors(words[0], tensors)
    elif command == "edit":
        changed(words[0], words[1], lambda data: edited(data, int(words[2])))
    elif command == "truncate":
        changed(words[0], words[1], lambda data: data[:int(words[2])])
    elif command == "newer":
        changed(words[0], words[1], lambda data: edited(data, VERSION_OFFSET + 1))
    else:
        sys.exit(f"files.py: unknown command {command}")


if __name__ == "__main__":
    main()
