# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks JSON of `kvasir run` of methods whose prompts thin out.

  thinning.py FASTKV PYRAMIDINFER    kept rows fall with depth
  thinning.py --same DENSE OTHER..   the others generate what dense does
"""
import json
import sys


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def row(path):
    """The one run that a file is about."""
    return read(path)["rows"][0]


def main(arguments):
    if arguments[0] == "--same":
        wanted = row(arguments[1])["new_tokens"]
        return all(row(path)["new_tokens"] == wanted for path in arguments[2:]) and len(wanted) > 1
    fastkv, pyramidinfer = (row(path)["kept_tokens"] for path in arguments)
    lengths = [heads[0] for heads in pyramidinfer]
    flat = all(len(set(heads)) == 1 for heads in fastkv + pyramidinfer)
    return flat and lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0] and len(fastkv) == len(lengths)


if __name__ == "__main__":
    if not main(sys.argv[1:]):
        sys.exit("unexpected rows or tokens")
