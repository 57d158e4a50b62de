#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes damaged copies of the executable argv[1]: cut.kvx, edited.kvx, newer.kvx."""
import sys
from pathlib import Path

whole = Path(sys.argv[1]).read_bytes()
middle = len(whole) // 2
Path("cut.kvx").write_bytes(whole[:middle])
Path("edited.kvx").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:])
# The format version is the u32 behind the magic of 8 bytes.
Path("newer.kvx").write_bytes(whole[:8] + (99).to_bytes(4, "little") + whole[12:])
