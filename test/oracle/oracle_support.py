# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What every oracle shares: reading the `apply` file, attention in double, top-k, quantizers in f32.

Dims: L layers, Hkv KV heads, G query heads per KV head, Hq = Hkv * G, T prompt rows, S decode steps,
D channels. Real arithmetic is double. Selection ranks scores rounded to f32; quantizers follow the
f32 operation order of the method texts. Nothing here knows a method.
"""
import contextlib
import math
from dataclasses import dataclass, field, replace

import numpy as np

from safetensors_io import BF16, METADATA, read_safetensors, to_bf16, write_safetensors  # noqa: F401 (re-exported)

CALIB = "__calib__"     # inputs[CALIB]: the tensors of a --calib file
EXACT = "__exact__"     # result[EXACT][layer, side]: per head, which rows must match bit for bit
SLACK = "__slack__"     # result[SLACK][layer, side]: per head, where a code may differ by one


# ---------------------------------------------------------------------------------------- input

@dataclass
class Layer:
    """One layer of an `apply` input, in double. positions covers prompt rows, then decode steps."""
    index: int
    act: str                         # dtype the cache stores: "F32", "F16" or "BF16"
    k: np.ndarray                    # [Hkv, T, D] after RoPE
    v: np.ndarray                    # [Hkv, T, D]
    positions: np.ndarray            # [T + S]
    inv_freq: np.ndarray             # [D / 2], or None
    q: np.ndarray = None             # [Hq, w, D] of the last w prompt rows, after RoPE
    k_pre: np.ndarray = None         # [Hkv, T, D] before RoPE
    step_k: np.ndarray = None        # [Hkv, S, D]
    step_v: np.ndarray = None        # [Hkv, S, D]
    step_q: np.ndarray = None        # [Hq, S, D]
    queries: np.ndarray = None       # [Hq, n, D]

    heads = property(lambda self: self.k.shape[0])
    tokens = property(lambda self: self.k.shape[1])
    dim = property(lambda self: self.k.shape[2])
    steps = property(lambda self: 0 if self.step_k is None else self.step_k.shape[1])


def layers_of(inputs):
    """The layers of an `apply` file, in order."""
    count = 1 + max(int(name.split(".")[1]) for name in inputs if name.startswith("layers."))
    return [_layer(inputs, index) for index in range(count)]


def _layer(inputs, index):
    def get(name):
        tensor = inputs.get(f"layers.{index}.{name}")
        return None if tensor is None else tensor.astype(np.float64)

    k, step_k = get("k"), get("step.k")
    tokens, dim = k.shape[1:]
    positions = inputs.get("positions", np.arange(tokens)).astype(np.int64)
    if step_k is not None:
        positions = np.append(positions, positions[-1] + 1 + np.arange(step_k.shape[1]))
    inv_freq = inputs.get("rope_inv_freq")
    theta = inputs.get(METADATA, {}).get("rope_theta")
    if inv_freq is None and theta is not None:
        inv_freq = float(theta) ** (-2.0 * np.arange(dim // 2) / dim)
    return Layer(index, act_of(inputs), k, get("v"), positions,
                 None if inv_freq is None else np.asarray(inv_freq, np.float64), get("q"), get("k_pre"),
                 step_k, get("step.v"), get("step.q"), get("queries"))


def per_row_head(layer, granularity):
    """The layer itself, or with query_head one whose KV heads are the query heads: each has K and V of its own."""
    if granularity == "kv_head":
        return layer
    if granularity != "query_head":
        raise ValueError(f"unknown granularity {granularity}")
    known = [heads for heads in (layer.q, layer.step_q, layer.queries) if heads is not None]
    group = len(known[0]) // layer.heads if known else 1

    def repeated(rows):
        return None if rows is None else np.repeat(rows, group, axis=0)

    return replace(layer, **{name: repeated(getattr(layer, name)) for name in ("k", "v", "k_pre", "step_k", "step_v")})


def act_of(inputs):
    """The dtype of the file's k and v, which the cache stores."""
    if inputs.get(BF16):
        return "BF16"
    return {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}[inputs["layers.0.k"].dtype]


def parameters(defaults, inputs, params):
    """Defaults, then `param.NAME` metadata, then `params`; text takes the type of the default."""
    given = {key[len("param."):]: value for key, value in inputs.get(METADATA, {}).items()
             if key.startswith("param.")}
    given.update(params)
    values = dict(defaults)
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(f"unknown parameter {name}")
        values[name] = _parse(value, defaults[name]) if isinstance(value, str) else value
    return values


def _parse(text, default):
    if isinstance(default, bool):
        return text == "true"
    if isinstance(default, list):
        return [int(part) for part in text.strip("[]").split(",") if part.strip()]
    if isinstance(default, (int, float)):
        return type(default)(text)
    return int(text) if default is None else text


def resolve_budget(text, tokens, is_ratio=False):
    """Tokens per head of `--budget 512`, `--budget 0.25` or (is_ratio) `--ratio 0.75`, in float64."""
    if is_ratio:
        return int(tokens * (1 - float(text)))
    return int(tokens * float(text)) if "." in text else int(text)


# ------------------------------------------------------------------------------------ attention

def softmax_rows(logits, visible):
    """Softmax of the last axis over visible entries; a fully masked row is 0."""
    masked = np.where(visible, logits, -np.inf)
    peak = masked.max(axis=-1, keepdims=True)
    weights = np.exp(masked - np.where(np.isfinite(peak), peak, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def prompt_probabilities(layer, rows):
    """P [Hq, rows, T] of the last `rows` prompt queries over all prompt keys, causal by position."""
    if layer.q is None or layer.q.shape[1] < rows:
        raise ValueError(f"layers.{layer.index}.q: expected at least {rows} rows")
    group = layer.q.shape[0] // layer.heads
    where = layer.positions[:layer.tokens]
    visible = where[None, :] <= where[layer.tokens - rows:, None]
    probabilities = []
    for query_head in range(layer.q.shape[0]):
        queries = layer.q[query_head, layer.q.shape[1] - rows:]
        logits = queries @ layer.k[query_head // group].T / math.sqrt(layer.dim)
        probabilities.append(softmax_rows(logits, visible))
    return np.array(probabilities)


def attend(query, keys, values):
    """One query [D] over every entry: output [D], probabilities [n], log-sum-exp."""
    if len(keys) == 0:
        return np.zeros(values.shape[1]), np.zeros(0), -np.inf
    logits = keys @ query / math.sqrt(len(query))
    peak = logits.max()
    weights = np.exp(logits - peak)
    total = weights.sum()
    return weights @ values / total, weights / total, peak + math.log(total)


def by_group(per_query_head, heads):
    """[Hq, ...] -> [Hkv, G, ...]: query head h reads KV head h // G."""
    array = np.asarray(per_query_head)
    return array.reshape((heads, -1) + array.shape[1:])


def pool(scores, kind, kernel):
    """1-D pooling of the last axis, stride 1: avg over zeros outside (always / kernel), or max."""
    half = kernel // 2
    outside = 0.0 if kind == "avg" else -np.inf
    padded = np.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(half, half)], constant_values=outside)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=-1)
    return windows.sum(axis=-1) / kernel if kind == "avg" else windows.max(axis=-1)


def rope(vectors, shift, inv_freq):
    """Rotates [..., n, D] by `shift` [n] positions; half-split pairs (i, i + D/2)."""
    angle = np.asarray(shift, np.float64)[:, None] * inv_freq
    low, high = np.split(vectors, 2, axis=-1)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


# ------------------------------------------------------------------------------------ selection

_gaps = None


@contextlib.contextmanager
def recorded_gaps():
    """Collects the relative distance between the two sides of every cut made inside the block."""
    global _gaps
    _gaps = []
    try:
        yield _gaps
    finally:
        _gaps = None


def record_cut(scores, cut_values):
    """Notes the smallest relative distance from a cut value to a different finite score.

    Scores within 1e-12 of each other are meant to tie (the same real number, summed twice).
    """
    if _gaps is None:
        return
    finite = scores[np.isfinite(scores)]
    for value in cut_values:
        if np.isfinite(value):
            distance = np.abs(finite - value) / np.maximum(np.maximum(np.abs(finite), abs(value)), 1e-30)
            distance = distance[distance > 1e-12]
            _gaps.append(distance.min() if distance.size else np.inf)


def record_gap(gap):
    """Notes the relative distance of a decision that is not a cut between scores; 0 draws the case again."""
    if _gaps is not None:
        _gaps.append(gap)


def top_k(scores, count):
    """Indices of the `count` largest f32 scores, ties to the lowest index, ascending."""
    count = max(0, min(count, len(scores)))
    order = np.argsort(-np.asarray(scores, np.float64).astype(np.float32), kind="stable")
    if 0 < count < len(scores):
        last, first = scores[order[count - 1]], scores[order[count]]
        tied = abs(last - first) <= 1e-12 * abs(last)
        if tied:
            record_cut(np.asarray(scores), [last])
        else:
            record_cut(np.array([last, first]), [last])
    return np.sort(order[:count])


def forced(scores, tokens):
    """Scores of [Hkv, n] prefix entries, +inf for the forced entries after them, up to T."""
    tail = np.full((len(scores), tokens - scores.shape[1]), np.inf)
    return np.concatenate([scores, tail], axis=1)


# ------------------------------------------------------------------------------------ quantizers

def f16(values):
    """Rounds to f16 (to nearest, ties to even), held in f32."""
    return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def to_act(values, act):
    """Rounds to the dtype the cache stores, held in double."""
    if act == "BF16":
        return to_bf16(values).astype(np.float64)
    return np.asarray(values, np.float64).astype(np.float16 if act == "F16" else np.float32).astype(np.float64)


def uqa(rows, bits):
    """Min/max affine code of groups along the last axis, each step in f32.

    Returns codes (U8), scale (f16), minimum (f16) without the last axis, and what decodes.
    """
    x = np.asarray(rows, np.float32)
    top = np.float32(2 ** bits - 1)
    scale = f16((x.max(axis=-1) - x.min(axis=-1)) / top)
    low = f16(x.min(axis=-1))
    divisor = np.where(scale > 0, scale, np.float32(1))[..., None]
    codes = np.clip(np.rint((x - low[..., None]) / divisor), np.float32(0), top)
    codes = np.where(scale[..., None] > 0, codes, np.float32(0))
    decoded = codes * scale[..., None] + low[..., None]
    return codes.astype(np.uint8), scale.astype(np.float16), low.astype(np.float16), decoded


def zero_point(rows, bits, clip):
    """Integer zero-point code of groups along the last axis, each step in f32; 0 is representable.

    Returns codes (U8), scale (f16), zero point (I32), what decodes, and (for rows that were rotated
    in real arithmetic) where a code or a whole group may legally come out one step off.
    """
    x = np.asarray(rows, np.float32)
    top = np.float32(2 ** bits - 1)
    high = np.maximum(x.max(axis=-1), np.float32(0)) * np.float32(clip)
    low = np.minimum(x.min(axis=-1), np.float32(0)) * np.float32(clip)
    empty = (high == 0) & (low == 0)
    high, low = np.where(empty, np.float32(1), high), np.where(empty, np.float32(-1), low)
    exact_scale = (high - low) / top
    scale = f16(exact_scale)
    divisor = np.where(scale > 0, scale, np.float32(1))
    zero = np.rint(-low / divisor)
    codes = np.clip(np.rint(x / divisor[..., None]) + zero[..., None], np.float32(0), top)
    decoded = (codes - zero[..., None]) * scale[..., None]
    group_slack = _near_f16_tie(exact_scale) | _near_tie(-low / divisor)
    slack = _near_tie(x / divisor[..., None]) | group_slack[..., None]
    return (codes.astype(np.uint8), scale.astype(np.float16), zero.astype(np.int32), decoded, slack, group_slack)


def _near_tie(quotient):
    return np.abs(np.abs(quotient - np.floor(quotient)) - 0.5) < 1e-4


def _near_f16_tie(values):
    centre = values.astype(np.float16)
    below = (f16(np.nextafter(centre, np.float16(-np.inf))) + f16(centre)) / 2
    above = (f16(np.nextafter(centre, np.float16(np.inf))) + f16(centre)) / 2
    return np.minimum(np.abs(values - below), np.abs(values - above)) < 2e-6 * np.abs(values)


def channel_groups(dim, size):
    """Slices of `size` channels; the last one may be shorter."""
    return [slice(start, min(start + size, dim)) for start in range(0, dim, size)]


def hadamard(dim):
    """Orthonormal Sylvester matrix [D, D]; symmetric, its own inverse. D is a power of two."""
    if dim & (dim - 1):
        raise ValueError(f"a Hadamard rotation needs a power of two, got {dim}")
    matrix = np.ones((1, 1))
    while len(matrix) < dim:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / math.sqrt(dim)


# ---------------------------------------------------------------------------------------- cache

class RowCache:
    """A cache of exact rows of one layer, per KV head: k, v [n, D], pos and input row [n]."""

    def __init__(self, layer):
        self.layer = layer
        prompt = np.arange(layer.tokens)
        self.k = [head.copy() for head in layer.k]
        self.v = [head.copy() for head in layer.v]
        self.rows = [prompt.copy() for _ in range(layer.heads)]
        self.pos = [layer.positions[:layer.tokens].copy() for _ in range(layer.heads)]

    def keep(self, head, kept):
        """Drops every entry of one head that `kept` (ascending entry numbers) does not name."""
        for column in (self.k, self.v, self.rows, self.pos):
            column[head] = column[head][kept]

    def append(self, step):
        """Appends decode row `step` (input row T + step) to every head."""
        row = self.layer.tokens + step
        for head in range(self.layer.heads):
            self.k[head] = np.vstack([self.k[head], self.layer.step_k[head, step]])
            self.v[head] = np.vstack([self.v[head], self.layer.step_v[head, step]])
            self.rows[head] = np.append(self.rows[head], row)
            self.pos[head] = np.append(self.pos[head], self.layer.positions[row])

    def attend(self, queries):
        """Queries [Hq, D] over all entries: out [Hq, D], probabilities (list of Hq), lse [Hq]."""
        return attend_heads(queries, self.k, self.v)


def attend_heads(queries, keys, values):
    """Queries [Hq, D] over per-KV-head entries: out [Hq, D], probabilities (list of Hq), lse [Hq]."""
    group = len(queries) // len(keys)
    results = [attend(query, keys[h // group], values[h // group]) for h, query in enumerate(queries)]
    return np.array([r[0] for r in results]), [r[1] for r in results], np.array([r[2] for r in results])


# --------------------------------------------------------------------------------------- output

@dataclass
class Coded:
    """What is quantized of one side: per head codes [N, D], scales and zeros, first coded row."""
    codes: list
    scales: list
    zeros: list
    slack: list = field(default_factory=list)        # per head: bool [N, D]
    group_slack: list = field(default_factory=list)  # per head, like scales


def write_layer(result, layer, cache, *, scores=None, step_out=None, counts=None, coded=None, exact=None,
                queries=None):
    """Adds one layer of the `apply` output; heads of different lengths come out ragged.

    cache: k, v, rows, pos per head as a reader sees them. coded: {"k": Coded, ...}. exact: {"k": per
    head bool [n]}, all True when left out. queries: replaces layer.queries (already re-rotated).
    """
    columns = {"indices": [rows.astype(np.int32) for rows in cache.rows],
               "k": [rows.astype(np.float32) for rows in cache.k],
               "v": [rows.astype(np.float32) for rows in cache.v],
               "pos": [pos.astype(np.int32) for pos in cache.pos]}
    if scores is not None:
        columns["scores"] = list(np.asarray(scores).astype(np.float32))
    if counts is not None:
        columns["counts"] = [count.astype(np.int32) for count in counts]
    for side, code in (coded or {}).items():
        columns[f"{side}.codes"], columns[f"{side}.scales"] = code.codes, code.scales
        columns[f"{side}.zeros"] = code.zeros
        result.setdefault(METADATA, {})[f"layers.{layer.index}.{side}.first"] = "0"
        if code.slack:
            result.setdefault(SLACK, {})[layer.index, side] = code
    for side in ("k", "v"):
        masks = (exact or {}).get(side) or [np.ones(len(rows), bool) for rows in cache.rows]
        result.setdefault(EXACT, {})[layer.index, side] = masks
    ragged = len({len(rows) for rows in cache.rows}) > 1
    for name, heads in columns.items():
        if ragged:
            result.update({f"layers.{layer.index}.{name}.{h}": rows for h, rows in enumerate(heads)})
        else:
            result[f"layers.{layer.index}.{name}"] = np.stack(heads)
    if step_out:
        result[f"layers.{layer.index}.step.out"] = np.stack(step_out, axis=1).astype(np.float32)
    queries = layer.queries if queries is None else queries
    if queries is not None:
        answers = [attend_heads(queries[:, i], cache.k, cache.v) for i in range(queries.shape[1])]
        result[f"layers.{layer.index}.out"] = np.stack([a[0] for a in answers], 1).astype(np.float32)
        result[f"layers.{layer.index}.lse"] = np.stack([a[2] for a in answers], 1).astype(np.float32)
    result.setdefault(METADATA, {})


def decode_by_appending(cache):
    """Decode of a method without a decode rule: append, attend over everything. List of [Hq, D]."""
    outputs = []
    for step in range(cache.layer.steps):
        cache.append(step)
        outputs.append(cache.attend(cache.layer.step_q[:, step])[0])
    return outputs
