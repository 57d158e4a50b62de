# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes to a folder: plain.st, a dump; gates.st, the same with gates of its 2 heads; short.st and nan.st, with gates that
do not fit; only-gates.st, the gates alone."""
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from make_inputs import encode, good  # noqa: E402

folder, dump = Path(sys.argv[1]), good()
gates = {"table.gates": np.array([[0.9, 0.1]], np.float32)}
(folder / "plain.st").write_bytes(encode(dump))
(folder / "gates.st").write_bytes(encode({**dump, **gates}))
(folder / "short.st").write_bytes(encode({**dump, "table.gates": np.array([0.5], np.float32)}))
(folder / "nan.st").write_bytes(encode({**dump, "table.gates": np.array([np.nan, 1], np.float32)}))
(folder / "only-gates.st").write_bytes(encode(gates))
