# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The README explains a method file line by line: quotes.py README METHOD_FILE. Its mlir blocks, one after the other, are the
file without its comments."""
import sys

from run_page import blocks


def main(page, file):
    quoted = [line for info, text, _ in blocks(page) if info == "mlir" for line in text.splitlines()]
    with open(file, encoding="utf-8") as stream:
        own = [line for line in stream.read().splitlines() if line.strip() and not line.lstrip().startswith("//")]
    for number, (a, b) in enumerate(zip(quoted, own), 1):
        if a != b:
            sys.exit(f"{page}: quoted line {number} is '{a}', {file} has '{b}'")
    if len(quoted) != len(own):
        sys.exit(f"{page}: quotes {len(quoted)} lines, {file} has {len(own)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
