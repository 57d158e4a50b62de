# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Seeded input files for every method: small, realistic, and with gaps at every cut.

Keys form clusters, have two outlier channels and pass through RoPE; queries point at clusters. A case
whose oracle cuts between scores closer than GAP (relative) is drawn again with the next seed, so the
index sets of two correct implementations are equal. Cases named `ties*` repeat rows instead.
"""
import importlib
from dataclasses import dataclass, field, replace

import numpy as np

import extra_cases
import table_cases
from oracle_support import CALIB, recorded_gaps, resolve_budget, rope
from safetensors_io import BF16, METADATA, to_bf16

GAP = 2e-5          # twice the score tolerance of f32
EIGEN_GAP = 0.1     # of the eigenvalues on both sides of a PCA cut
THETA = 10000.0
METHODS = ["dense", "streaming-llm", "knorm", "snapkv", "h2o", "tova", "ada-snapkv", "pyramidkv", "kivi", "quarot",
           "pca", "tome-merge", "snapkv+kivi"]
# An oracle and cases are here, the method file is not: conformance.py takes these names, tests of every method do not.
UNSHIPPED = ["a2sf", "roco", "corm", "scissorhands", "scope", "dbudgetkv", "evolkv", "zigzagkv",
             *extra_cases.NAMES, *table_cases.NAMES]
_ROUND = {"F32": np.float32, "F16": np.float16, "BF16": to_bf16}
UNBUDGETED = {"dense", "kivi", "quarot", "pca", "dbudgetkv"} | extra_cases.UNBUDGETED | table_cases.UNBUDGETED
WINDOWED = {"snapkv", "ada-snapkv", "pyramidkv", "snapkv+kivi", "scope", "evolkv", "zigzagkv",
            *extra_cases.WINDOWS, *table_cases.WINDOWS}
ALL_ROWS = {"h2o", "a2sf", "corm", "scissorhands"} | extra_cases.ALL_ROWS    # need the queries of the whole prompt


# take granularity
PER_QUERY_HEAD = {"snapkv", "h2o", "ada-snapkv", "pyramidkv", "snapkv+kivi", "scope", "headkv", "evolkv", "zigzagkv"}


@dataclass
class Case:
    """One call of `apply`. budget is the text of --budget (or of --ratio), None when not given."""
    name: str
    tokens: int = 200
    group: int = 1
    dim: int = 32
    layers: int = 2
    heads: int = 2
    steps: int = 40
    dtype: str = "F32"
    budget: str = None
    is_ratio: bool = False
    params: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    queries: int = 3
    query_rows: int = None           # rows of layers.i.q; None = all T, 0 = no tensor
    repeat: int = 0                  # > 0: prompt rows repeat with this period (ties)
    start: int = 0                   # > 0: positions start here and have holes
    stepped: bool = False            # spectrum that falls in steps after every D / 4 channels
    tiny_keys: bool = False          # every fifth key has a norm near 1e-6
    blind: int = 0                   # > 0: attention falls on this many last rows; before them it underflows to 0
    value_scale: float = 1.0
    pre_rope: bool = False           # give layers.i.k_pre
    calib_tokens: int = 0            # > 0: a calibration file of so many rows
    task_rows: int = 0               # > 0: a second pass of so many rows (extra_cases.py)
    draft_rows: int = 0              # > 0: queries of a draft answer
    classes: bool = False            # give token classes
    tables: str = ""                 # the method whose calibrated tables are given (table_cases.py)
    seed: int = 0
    inputs: dict = None              # filled by generate()
    rejected: str = None             # a word of the message when the call must exit with code 2


def oracle_of(method):
    """The oracle module of a method name."""
    return importlib.import_module("oracle_" + method.replace("-", "_").replace("+", "_"))


def expected(method, case):
    """The oracle's result for a generated case."""
    budget = None if case.budget is None else resolve_budget(case.budget, case.tokens, case.is_ratio)
    return oracle_of(method).run(case.inputs, case.params, budget)


def generate(method, case, attempts=60):
    """Fills case.inputs with the first seed whose cuts all have gaps; returns (case, expected)."""
    if case.rejected is not None:
        return replace(case, inputs=make_inputs(case)), None
    for attempt in range(attempts):
        drawn = replace(case, seed=case.seed + 1000 * attempt)
        drawn.inputs = make_inputs(drawn)
        with recorded_gaps() as gaps:
            result = expected(method, drawn)
        if min(gaps, default=1.0) >= (EIGEN_GAP if method == "pca" else GAP):
            return drawn, result
    raise RuntimeError(f"{method}/{case.name}: no seed of {attempts} has gaps of {GAP} at every cut")


# ---------------------------------------------------------------------------------------- inputs

def make_inputs(case):
    """The tensors and metadata of one input file, all from case.seed."""
    rng = np.random.default_rng([case.seed, case.tokens, case.dim, case.group])
    act = _ROUND[case.dtype]
    inv_freq = (THETA ** (-2.0 * np.arange(case.dim // 2) / case.dim)).astype(np.float32)
    positions = np.arange(case.tokens)
    if case.start:
        positions = case.start + np.cumsum(rng.integers(1, 4, case.tokens)) - 1
    inputs = {METADATA: dict(case.metadata), "rope_inv_freq": inv_freq}
    if case.dtype == "BF16":
        inputs[BF16] = True
    if case.start:
        inputs["positions"] = positions.astype(np.int64)
    places = np.append(positions, positions[-1] + 1 + np.arange(case.steps))
    calib = {METADATA: {}, "rope_inv_freq": inv_freq}
    for index in range(case.layers):
        draw = _Sampler(rng, case)
        tensors = draw.layer(places, inv_freq)
        inputs.update({f"layers.{index}.{name}": act(values) for name, values in tensors.items()})
        if case.calib_tokens:
            k, v = draw.calibration(case.calib_tokens, inv_freq)
            calib[f"layers.{index}.k"], calib[f"layers.{index}.v"] = act(k), act(v)
    if case.calib_tokens:
        inputs[CALIB] = calib
    extra_cases.add_extras(inputs, case, act)
    table_cases.add_tables(inputs, case)
    return inputs


class _Sampler:
    """Draws one layer: cluster centres, outlier channels and per-row strengths are shared by its rows."""

    def __init__(self, rng, case):
        self.rng, self.case = rng, case
        heads, dim = case.heads, case.dim
        self.centres = rng.standard_normal((heads, 8, dim))
        self.offset = np.zeros((heads, 1, dim))
        self.offset[:, 0, 1], self.offset[:, 0, dim // 2 + 3] = 4.0, -3.0
        self.value_basis = rng.standard_normal((heads, dim, dim))
        self.spectrum = 0.35 ** (np.arange(dim) // (dim // 4))

    def rows(self, count):
        """Keys before RoPE and values [Hkv, count, D] of rows in runs of clusters."""
        rng, heads, dim = self.rng, self.case.heads, self.case.dim
        cluster = np.repeat(rng.integers(0, 8, count // 3 + 1), 3)[:count]
        strength = np.exp(0.3 * rng.standard_normal((heads, count, 1)))
        noise = rng.standard_normal((heads, count, dim))
        keys = strength * (0.8 * self.centres[:, cluster] + 0.6 * noise + self.offset)
        values = 0.5 * self.centres[:, cluster, ::-1] + rng.standard_normal((heads, count, dim))
        return keys, values

    def layer(self, places, inv_freq):
        """Every tensor of the layer; `places` are the positions of prompt rows and steps."""
        case, tokens, rng = self.case, self.case.tokens, self.rng
        keys, values = self.rows(len(places))
        queries = self._queries(len(places) + case.queries)
        beyond = np.append(places, places[-1] + 1 + np.arange(case.queries))
        queries = rope(queries, beyond, inv_freq)
        rotated = rope(keys, places, inv_freq)
        if case.stepped:
            rotated, values = self._stepped(rotated), self._stepped(values)
        if case.repeat:
            source = np.arange(tokens) % case.repeat
            rotated[:, :tokens], values[:, :tokens] = rotated[:, source], values[:, source]
        if case.blind:
            rotated[:, :, 0], queries[:, :, 0] = 0.0, 30.0
            rotated[:, tokens - case.blind:, 0] = 30.0
        values = values * case.value_scale
        if case.tiny_keys:
            norms = np.linalg.norm(rotated[:, ::5], axis=-1, keepdims=True)
            rotated[:, ::5] *= 10.0 ** rng.uniform(-6.3, -5.8, norms.shape) / norms
        out = {"k": rotated[:, :tokens], "v": values[:, :tokens]}
        query_rows = tokens if case.query_rows is None else case.query_rows
        if query_rows:
            out["q"] = queries[:, tokens - query_rows:tokens]
        if case.steps:
            steps = slice(tokens, tokens + case.steps)
            out.update({"step.k": rotated[:, steps], "step.v": values[:, steps], "step.q": queries[:, steps]})
        if case.queries:
            out["queries"] = queries[:, len(places):]
        if case.pre_rope:
            out["k_pre"] = keys[:, :tokens]
        return out

    def calibration(self, count, inv_freq):
        """Keys after RoPE and values [Hkv, count, D] of another text of the same model."""
        keys, values = self.rows(count)
        keys = rope(keys, np.arange(count), inv_freq)
        return (self._stepped(keys), self._stepped(values)) if self.case.stepped else (keys, values)

    def _queries(self, count):
        """[Hq, count, D] aimed at clusters of their KV head; logits spread by about 2."""
        case, rng = self.case, self.rng
        wanted = rng.integers(0, 8, (case.heads * case.group, count))
        owner = np.arange(case.heads * case.group) // case.group
        aimed = self.centres[owner[:, None], wanted]
        return 0.6 * aimed + 0.9 * rng.standard_normal(aimed.shape)

    def _stepped(self, rows):
        """Scales rows by the spectrum in a random basis per head, so that a PCA cut is well defined."""
        basis = np.linalg.qr(self.value_basis)[0]
        return (rows @ basis * self.spectrum) @ np.swapaxes(basis, -1, -2)


# ----------------------------------------------------------------------------------------- grids

def cases_for(method):
    """Every case of a method, the most telling first."""
    cases = _without_budget(method) if method in UNBUDGETED else _with_budget(method)
    cases = table_cases.adapt(method, extra_cases.adapt(method, cases))
    return [replace(case, seed=17 * number) for number, case in enumerate(cases)]


def _with_budget(method):
    rows = None if method in ALL_ROWS else _window_of(method)
    cases = [
        Case("g4-f32", group=4, dim=64, budget="96"),
        Case("g1-f32", budget="101", query_rows=rows),
        Case("g4-f16", group=4, dtype="F16", budget="96", query_rows=rows),
        Case("g1-f16", dim=64, dtype="F16", budget="120", tokens=300),
        Case("below", tokens=80, group=4, budget="100"),
        Case("at", tokens=96, budget="96"),
        Case("one-over", tokens=97, budget="96", steps=0),
        Case("small-budget", group=4, budget="8"),
        Case("budget-one", budget="1", steps=6),
        Case("short-prompt", tokens=20, group=4, budget="12"),
        Case("one-token", tokens=1, group=4, budget="4"),
        Case("one-token-f16", tokens=1, dtype="F16", budget="1", steps=3),
        Case("ties", group=4, budget="90", repeat=12, steps=0),
        Case("ties-g1", budget="90", repeat=8, steps=0, dim=64),
        Case("fraction", tokens=250, budget="0.5"),
        Case("ratio", tokens=230, budget="0.6", is_ratio=True, steps=0),
        Case("holes", group=4, start=11, budget="96"),
        Case("no-steps-no-queries", budget="90", steps=0, queries=0),
        Case("g4-bf16", group=4, dtype="BF16", budget="96"),
        Case("zero-kept", tokens=10, budget="0.05", rejected="budget"),
    ]
    if method in WINDOWED | ALL_ROWS | {"tova"}:
        cases.append(Case("no-query-rows", budget="90", query_rows=0, rejected="layers.0.q"))
    if method in ALL_ROWS:
        cases.append(Case("too-few-query-rows", budget="90", query_rows=199, rejected="layers.0.q"))
    if method in WINDOWED:
        cases.append(Case("too-few-query-rows", budget="90", query_rows=_window_of(method) - 1, rejected="layers.0.q"))
    if method in PER_QUERY_HEAD:
        each = {"granularity": "query_head"}
        cases += [Case("query-heads-g4", params=each, group=4, budget="96"),
                  Case("query-heads-g2-f16", params=each, group=2, dtype="F16", tokens=150, budget="90"),
                  Case("query-heads-g1", params=each, budget="101"),
                  Case("query-heads-below", params=each, tokens=80, group=4, budget="100"),
                  Case("query-heads-unknown", params={"granularity": "head"}, budget="96", rejected="granularity")]
    return cases + _by_parameter(method)


def _window_of(method):
    """Rows of q that the defaults need; 0 for a method that reads no query at the prompt."""
    rows = {"snapkv": 64, "snapkv+kivi": 64, "pyramidkv": 64, "ada-snapkv": 32, "tova": 1, "scope": 8, "evolkv": 32,
            "zigzagkv": 64, **extra_cases.WINDOWS, **table_cases.WINDOWS}
    return rows.get(method, 0)


def _by_parameter(method):
    big = dict(group=4, budget="96")
    snapkv = [
        Case("window-16", params={"window": 16}, query_rows=16, **big),
        Case("kernel-1", params={"kernel": 1, "window": 16}, **big),
        Case("kernel-7-max", params={"kernel": 7, "pooling": "max", "window": 32}, **big),
        Case("window-by-metadata", metadata={"param.window": "24"}, **big),
        Case("set-beats-metadata", params={"window": 20}, metadata={"param.window": "24"}, **big),
        Case("budget-is-window", params={"window": 32}, group=4, budget="32"),
    ]
    return {
        "streaming-llm": [
            Case("sinks-0", params={"sinks": 0}, **big),
            Case("sinks-beyond-budget", params={"sinks": 9}, group=4, budget="5"),
            Case("reindexed", params={"positions": "cache"}, tokens=90, group=4, budget="40"),
            Case("reindexed-pre-rope", params={"positions": "cache"}, tokens=90, budget="33", pre_rope=True),
            Case("reindexed-below", params={"positions": "cache"}, tokens=20, group=4, budget="40", start=5),
            Case("reindexed-f16", params={"positions": "cache"}, tokens=90, group=4, budget="40", dtype="F16",
                 pre_rope=True),
        ],
        "knorm": [
            Case("skip-layer-0", params={"skip_layers": [0]}, **big),
            Case("reindexed", params={"positions": "cache"}, tokens=90, group=4, budget="40"),
            Case("reindexed-pre-rope", params={"positions": "cache"}, tokens=90, budget="33", pre_rope=True),
            Case("reindexed-below", params={"positions": "cache"}, tokens=20, group=4, budget="40", start=5),
            Case("reindexed-f16", params={"positions": "cache", "skip_layers": [1]}, tokens=90, group=4, budget="40",
                 dtype="F16", pre_rope=True),
            Case("prune-after-above", params={"prune_after": 201}, **big),
            Case("prune-after-at", params={"prune_after": 200}, **big),
        ],
        "snapkv": snapkv,
        "pyramidkv": snapkv + [
            Case("three-layers", layers=3, tokens=260, group=4, budget="100"),
            Case("four-layers-capped", layers=4, tokens=120, group=1, budget="100", params={"window": 48}),
            Case("five-layers", layers=5, tokens=300, budget="110", steps=0, params={"window": 16}),
            Case("beta-1", layers=3, tokens=260, budget="100", params={"beta": 1}),
            Case("beta-3", layers=4, tokens=260, budget="100", params={"beta": 3, "window": 16}),
            Case("one-layer", layers=1, tokens=260, budget="100"),
            Case("whole", layers=5, tokens=260, budget="100", params={"slope": "whole", "beta": 5, "window": 16}),
            Case("whole-halves", layers=5, tokens=260, group=4, budget="100", params={"slope": "whole", "beta": 8, "window": 8}),
            Case("whole-capped", layers=4, tokens=150, budget="90", params={"slope": "whole", "beta": 5, "window": 16}),
            Case("whole-flat", layers=3, tokens=260, budget="100", params={"slope": "whole"}),
            Case("whole-end-at-window", layers=3, tokens=260, budget="100", params={"slope": "whole", "beta": 5, "window": 20}),
            Case("whole-nearly-all", layers=3, tokens=130, budget="120", params={"slope": "whole", "window": 16, "beta": 2}),
            Case("whole-one-layer", layers=1, tokens=260, budget="100", params={"slope": "whole", "beta": 5, "window": 16}),
            Case("whole-below", layers=3, tokens=80, budget="100", params={"slope": "whole", "window": 16}),
            Case("whole-newest", layers=3, budget="30", params={"slope": "whole"}),
            Case("flat-below-twice", layers=3, tokens=130, budget="110", params={"window": 32}),
            Case("at-twice", layers=3, tokens=156, budget="110", params={"window": 32}),
        ],
        "tova": [Case("newest-competes", params={"protect_newest": False}, **big)],
        "a2sf": [
            Case("forgetting-0.95", params={"forgetting": 0.95}, **big),
            Case("forgetting-1", params={"forgetting": 1.0}, **big),
            Case("forgetting-0", params={"forgetting": 0.0}, **big),
            Case("recent-16", params={"recent": 16}, **big),
            Case("recent-0", params={"recent": 0, "forgetting": 0.9}, **big),
            Case("prefill-only", params={"decode": "append", "recent": 16, "forgetting": 0.95}, **big),
        ],
        "corm": [  # without a budget nothing is capped
            Case("window-16", params={"window": 16, "recent": 8}, group=4),
            Case("window-1", params={"window": 1, "recent": 0}),
            Case("window-3-f16", params={"window": 3, "recent": 5}, group=4, dtype="F16"),
            Case("cached-level", params={"window": 6, "recent": 4, "level": "cached"}),
            Case("fills-in-decode", params={"window": 50, "recent": 4}, tokens=40, group=4),
            Case("capped", params={"window": 16, "recent": 8}, group=4, budget="60"),
            Case("cap-below-recent", params={"window": 16, "recent": 32}, budget="20"),
        ],
        "scissorhands": [
            Case("repeat", params={"prompt": "repeat", "drop": 0.3}, group=4, budget="60"),
            Case("one-per-step", params={"drop": 0.0}, **big),
            Case("window-16", params={"window": 16}, **big),
            Case("window-20-f16", params={"window": 20, "recent": 4}, dtype="F16", budget="30"),
            Case("drop-0.2", params={"drop": 0.2, "recent": 0}, tokens=90, budget="50"),
        ],
        "evolkv": [
            Case("window-16", params={"window": 16}, query_rows=16, **big),
            Case("two-to-one", tables="evolkv 80 40", **big),
            Case("complete", tables="evolkv 130 62", **big),
            Case("capped", tables="evolkv 1 30", params={"kernel": 5, "pooling": "avg"}, tokens=130, budget="90"),
            Case("floored", tables="evolkv 1 30", tokens=300, budget="90", steps=0),
            Case("five-layers", tables="evolkv 41 97 60 55 71", params={"window": 16}, layers=5, budget="77", steps=0),
        ],
        "zigzagkv": snapkv + [
            Case("three-layers", layers=3, tokens=260, group=4, budget="100"),
            Case("five-layers", layers=5, tokens=300, budget="110", steps=0, params={"window": 16}),
            Case("mass-0.5", layers=4, params={"mass": 0.5, "window": 16}, **big),
            Case("bound-half", layers=3, params={"bound": 0.5, "window": 16}, **big),
            Case("no-bound", layers=3, params={"bound": 0.0, "window": 16}, group=2, budget="40"),
            Case("one-layer", layers=1, tokens=260, budget="100"),
            Case("nearly-all", layers=3, tokens=130, budget="127", params={"window": 16}),
        ],
        "scope": [
            Case("slide", params={"recent": 8, "decode_window": 20}, **big),
            Case("adaptive", params={"recent": 6, "decode_window": 15, "max_new": 40, "mode": "adaptive"}, **big),
            Case("discontinuous", params={"recent": 4, "decode_window": 12, "max_new": 40, "mode": "discontinuous"},
                 budget="60", steps=50),
            Case("slide-f16", params={"recent": 0, "decode_window": 9}, group=4, budget="60", dtype="F16"),
            Case("all-rows", params={"recent": 8, "decode_window": 20, "prefill": "h2o"}, **big),
            Case("whole-prompt", params={"recent": 8, "decode_window": 20, "prefill": "none"}, **big),
            Case("room-for-one", params={"recent": 4, "decode_window": 5, "max_new": 24, "mode": "adaptive"}, **big),
            Case("delta-of-one", params={"recent": 4, "decode_window": 30, "max_new": 20, "mode": "adaptive"}, **big),
        ],
        "roco": [
            Case("ten-generated", group=4, budget="10"),
            Case("thirty-generated", budget="30", steps=60),
            Case("wide", group=4, budget="14", params={"recent_ratio": 0.1, "protect": 4}, tokens=90),
            Case("unprotected", budget="12", params={"recent_ratio": 0.0, "protect": 0}, tokens=90),
            Case("twelve-f16", group=4, budget="12", dtype="F16"),
            # Few compete, so that the spread decides; then the mean does not.
            Case("spread", group=4, budget="20", params={"recent_ratio": 0.8, "protect": 2}, tokens=60, steps=50),
            Case("encoding-spread", params={"mode": "encoding", "stride": 4, "encode_ratio": 0.8, "protect": 3,
                                            "sinks": 2}, tokens=90, group=4, budget="40", steps=5),
            Case("encoding", params={"mode": "encoding"}, tokens=90, group=4, budget="60", steps=5),
            Case("encoding-stride-8", params={"mode": "encoding", "stride": 8}, group=4, budget="110", steps=5),
            Case("encoding-ratio-kept", params={"mode": "encoding", "stride": 8, "cap": "ratio",
                                                "keep_attention": True}, budget="0.5", steps=5),
            Case("encoding-wide", params={"mode": "encoding", "stride": 3, "encode_ratio": 0.3, "sinks": 2,
                                          "protect": 5}, tokens=90, budget="40", steps=5),
            Case("auto-fits", params={"mode": "auto"}, tokens=90, group=4, budget="110"),
            Case("auto-below", params={"mode": "auto", "stride": 4}, tokens=90, group=4, budget="50", steps=20),
        ],
        "ada-snapkv": [
            Case("floor-0", params={"floor": 0.0}, **big),
            Case("floor-half", params={"floor": 0.5}, **big),
            Case("floor-1", params={"floor": 1.0}, **big),
            Case("normalized", params={"normalize": True}, **big),
            Case("forced", params={"guarantee": "force", "floor": 0.6}, **big),
            Case("forced-window", params={"guarantee": "force", "window": 8, "floor": 0.9}, heads=4, group=2, budget="70"),
            Case("forced-all", params={"guarantee": "force", "floor": 1.0}, budget="80"),
            Case("forced-normalized", params={"guarantee": "force", "floor": 0.75, "normalize": True}, heads=3, **big),
            Case("forced-query-heads", params={"guarantee": "force", "floor": 0.7, "window": 16,
                                               "granularity": "query_head"}, **big),
            Case("forced-below", params={"guarantee": "force"}, tokens=80, group=4, budget="100"),
            Case("forced-newest", params={"guarantee": "force"}, group=4, budget="20"),
            # All prefix scores are 0, as the window's rows would be: only the prefix may be counted.
            Case("blind-prefix", blind=32, steps=0, queries=0, **dict(big, budget="150")),
            Case("four-heads", heads=4, group=2, budget="70"),
            Case("kernel-1-avg", params={"kernel": 1, "pooling": "avg"}, **big),
            Case("kernel-5-avg", params={"kernel": 5, "pooling": "avg", "window": 16}, **big),
        ],
        "tome-merge": [
            Case("threshold", params={"similarity_threshold": 0.6}, tokens=120, group=4, budget="70"),
            Case("tiny-keys", tiny_keys=True, tokens=60, budget="20"),
            Case("tiny-values", value_scale=1e-6, tokens=60, group=4, budget="20"),
            Case("fraction-half", params={"merge_fraction": 0.5}, tokens=120, budget="70"),
            Case("fraction-and-threshold", params={"merge_fraction": 0.25, "similarity_threshold": 0.5}, tokens=120,
                 budget="70", dtype="F16"),
        ],
        "snapkv+kivi": [
            Case("four-bits", params={"k_bits": 4, "v_bits": 4}, **big),
            Case("window-16", params={"window": 16, "residual_length": 64}, group=4, budget="100"),
        ],
    }.get(method, [])


def _without_budget(method):
    cases = [
        Case("g4-f32", group=4, dim=64, tokens=210, query_rows=0),
        Case("g1-f32", tokens=203),
        Case("g4-f16", group=4, dtype="F16", tokens=197, query_rows=0),
        Case("g1-f16", dim=64, dtype="F16", tokens=300),
        Case("whole-blocks", tokens=192, group=4, steps=0),
        Case("short-of-a-block", tokens=31, group=4),
        Case("one-block", tokens=32),
        Case("one-token", tokens=1, group=4),
        Case("ties", tokens=150, repeat=6, group=4),
        Case("holes", tokens=150, start=7),
        Case("no-steps-no-queries", tokens=100, steps=0, queries=0),
        Case("g4-bf16", group=4, dtype="BF16", tokens=140),
        Case("budget-refused", tokens=100, budget="50", rejected="budget"),
    ]
    more = {
        "kivi": [
            Case("four-bits", params={"k_bits": 4, "v_bits": 4}, group=4, tokens=150),
            Case("mixed-bits", params={"k_bits": 4, "v_bits": 2}, tokens=150, dtype="F16"),
            Case("group-16-tail-64", params={"group_size": 16, "residual_length": 64}, group=4, tokens=150),
            Case("remainder-group", group=4, tokens=150, dim=80),
            Case("group-24", params={"group_size": 24, "residual_length": 48}, tokens=64, rejected="group_size"),
            Case("tail-at-length", params={"residual_length": 64}, tokens=64),
            Case("tail-not-a-multiple", params={"residual_length": 40}, tokens=64, rejected="residual_length"),
        ],
        "quarot": [
            Case("two-bits", params={"bits": 2}, group=4, tokens=150),
            Case("eight-bits", params={"bits": 8}, tokens=150),
            Case("group-16", params={"group": 16}, group=4, tokens=150, dim=64),
            Case("clip", params={"clip": 0.9}, group=4, tokens=150),
        ],
        "dbudgetkv": [
            Case("theta-0.1", params={"theta": 0.1}, group=4),
            Case("theta-0", params={"theta": 0.0}, group=4, tokens=60),
            Case("theta-1", params={"theta": 1.0, "safe": 2}),
            Case("query-norms", params={"theta": 0.05, "norms": "query"}, group=4),
            Case("heavy-order", params={"theta": 0.05, "order": "h2o", "safe": 8}, group=4),
            Case("several-rows", params={"theta": 0.03, "metric": "rows"}),
            Case("several-rows-deep", params={"theta": 0.9, "metric": "rows", "window": 32}, group=4),
            Case("heavy-order-deep", params={"theta": 0.6, "order": "h2o", "safe": 8}, group=4),
            Case("heavy-order-all", params={"theta": 1.0, "order": "h2o", "safe": 8}, group=4),
            Case("heavy-order-none", params={"theta": 0.0, "order": "h2o", "safe": 8}, group=4, tokens=60),
            Case("query-heads", params={"theta": 0.05, "granularity": "query_head"}, group=4),
            Case("skip-layer-0", params={"theta": 0.2, "skip_layers": [0]}, dtype="F16"),
            Case("no-query-rows", query_rows=0, rejected="layers.0.q"),
        ],
        "pca": [
            Case("rank-8-24", params={"rank_k": 8, "rank_v": 24}, group=4, tokens=150),
            Case("full-rank", params={"rank_k": 32, "rank_v": 32}, group=4, tokens=150),
            Case("calibrated", tokens=120, group=4, calib_tokens=200),
            Case("one-token-calibrated", tokens=1, group=4, calib_tokens=150),
            Case("calibrated-f16", tokens=90, dtype="F16", calib_tokens=200),
        ],
    }.get(method, [])
    if method == "dbudgetkv":
        cases = [replace(case, query_rows=1) if case.query_rows == 0 else case for case in cases]
    cases += more
    if method == "pca":
        cases = [replace(case, stepped=True, **_determined(case)) for case in cases]
    return cases


def _determined(case):
    """PCA of fewer rows than channels leaves later rows undefined: such prompts get no steps."""
    rows = case.calib_tokens or (case.repeat or case.tokens)
    return {} if rows > case.dim else {"steps": 0}
