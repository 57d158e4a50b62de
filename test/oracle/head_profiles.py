# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Head profiles that calibration makes, computed again in numpy from the weights of a model.

  head_profiles.py --kvasir build/bin/kvasir --model models/kvref-s --method headkv --set needles=2
  head_profiles.py ... --mutate --file frontends/methods/headkv.mlir

Runs `kvasir calibrate --sequences`, checks that the sequences are what the method asks for, runs the model on them in
double precision, takes each head's probabilities and computes the profile from them. Prints `PASS`; the first difference
and exit code 1 otherwise. With --mutate, every changed constant or exchanged op of the method's calibrate phases must show.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import mutations
from safetensors_io import METADATA, read_safetensors

BEGIN = 256
QUESTION = b"\nWhat is the pass key? The pass key is "


def rms(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


class Model:
    """A Llama with tied embeddings; keys and values are rounded to f16, as a cache holds them."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as stream:
            self.config = json.load(stream)
        tensors = read_safetensors(os.path.join(folder, "model.safetensors"))
        self.weights = {name: np.asarray(value, np.float64) for name, value in tensors.items() if name != METADATA}
        self.layers, self.heads = self.config["num_hidden_layers"], self.config["num_attention_heads"]
        self.kv_heads, self.dim = self.config["num_key_value_heads"], self.config["head_dim"]
        self.group = self.heads // self.kv_heads
        self.frequencies = self.config["rope_theta"] ** (-np.arange(0, self.dim, 2) / self.dim)

    def rope(self, x, positions):
        """x [T, H, D], halves rotated against each other."""
        angles = np.asarray(positions, np.float64)[:, None] * self.frequencies
        cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def probabilities(self, q, k):
        """[Hq, T, T], causal."""
        rows = len(q)
        logits = np.einsum("ihd,jhd->hij", q, np.repeat(k, self.group, axis=1)) / np.sqrt(self.dim)
        logits[:, np.triu(np.ones((rows, rows), bool), 1)] = -np.inf
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    def run(self, tokens):
        """Of each layer (q before RoPE, k before RoPE, probabilities), and the logits of all rows."""
        w, eps = self.weights, self.config["rms_norm_eps"]
        x, seen, positions = w["model.embed_tokens.weight"][tokens], [], np.arange(len(tokens))
        for layer in range(self.layers):
            name = f"model.layers.{layer}."
            h = rms(x, w[name + "input_layernorm.weight"], eps)
            q, k, v = ((h @ w[f"{name}self_attn.{p}_proj.weight"].T).reshape(len(tokens), -1, self.dim) for p in "qkv")
            held = self.rope(k, positions).astype(np.float16).astype(np.float64)
            p = self.probabilities(self.rope(q, positions), held)
            seen.append((q, k, p))
            v = np.repeat(v.astype(np.float16).astype(np.float64), self.group, axis=1)
            x = x + np.einsum("hij,jhd->ihd", p, v).reshape(len(tokens), -1) @ w[name + "self_attn.o_proj.weight"].T
            h = rms(x, w[name + "post_attention_layernorm.weight"], eps)
            gate = h @ w[name + "mlp.gate_proj.weight"].T
            up = h @ w[name + "mlp.up_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[name + "mlp.down_proj.weight"].T
        return seen, rms(x, w["model.norm.weight"], eps) @ w["model.embed_tokens.weight"].T


# ---- the profiles: lists of sequences (tokens, tables, layers) -> the table

def echo_and_induction(model, sequences, params):
    """RazorAttention, arXiv 2407.15891: 1 for retrieval heads."""
    ((_, _, layers),) = sequences
    n = int(params["period"])
    echo, induction = np.zeros((2, model.layers, model.heads))
    for layer, (_, _, p) in enumerate(layers):
        for i in range(1 + n, p.shape[1]):
            for j in range(i - n, 0, -n):  # the same token in an earlier copy
                echo[layer] += p[:, i, j]
                induction[layer] += p[:, i, j + 1]
    chosen = np.zeros((model.layers, model.kv_heads))
    for score, share in ((echo, params["echo_share"]), (induction, params["induction_share"])):
        score = score.reshape(model.layers, model.kv_heads, model.group).max(-1)
        count = max(1, int(np.round(float(share) * score.size)))
        chosen[score >= np.sort(score, axis=None)[-count]] = 1
    return chosen


def needle_rows(tokens, tables, params):
    """(row, token it produced) of the answer, and the entries of the needle."""
    produced, needle = tables["produced"], np.flatnonzero(tables["needle"] == 1)
    rows = np.flatnonzero(produced >= 0)
    assert len(rows) == int(params["answer"]) and rows[-1] == len(tokens) - 1
    return [(row, produced[row]) for row in rows], needle


def retrieval_scores(model, sequences, params):
    """HeadKV, arXiv 2410.19258."""
    scores = np.zeros((model.layers, model.heads))
    for tokens, tables, layers in sequences:
        rows, needle = needle_rows(tokens, tables, params)
        for layer, (_, _, p) in enumerate(layers):
            for head in range(model.heads):
                for row, made in rows:
                    order = np.argsort(-p[head, row], kind="stable")
                    if params["profile"] == "reason":
                        best = [j for j in order[:len(needle)] if j in needle]
                        scores[layer, head] += p[head, row, best].sum() / len(needle)
                    elif order[0] in needle and tokens[order[0]] == made:
                        scores[layer, head] += 1 / len(needle)
    scores /= len(sequences)
    table = scores if scores.sum() > 0 else np.ones_like(scores)
    return table.reshape(model.layers, model.kv_heads, model.group)


def voting_heads(model, sequences, params):
    """CompressKV, arXiv 2508.02401: 1 for the best query heads of each layer."""
    scores = np.zeros((model.layers, model.heads))
    for tokens, tables, layers in sequences:
        rows, needle = needle_rows(tokens, tables, params)
        for layer, (_, _, p) in enumerate(layers):
            for row, made in rows:
                for j in needle:
                    if tokens[j] == made:
                        scores[layer] += p[:, row, needle].sum(-1)
    votes = [row >= np.sort(row)[-min(int(params["voters"]), model.heads)] for row in scores]
    return np.asarray(votes, np.float64).reshape(model.layers, model.kv_heads, model.group)


def far_attention(model, sequences, params):
    """DuoAttention without training, as kvpress: the area under the attention summed up over places."""
    gates = np.zeros((model.layers, model.heads))
    for tokens, _, layers in sequences:
        places = min(int(params["positions"]), len(tokens))
        for layer, (q, k, _) in enumerate(layers):
            query = model.rope(np.repeat(q.mean(0)[None], places, axis=0), np.arange(places))[-1:]
            keys = model.rope(np.repeat(k.mean(0)[None], places, axis=0), np.arange(places))
            logits = np.einsum("ihd,jhd->hij", query, np.repeat(keys, model.group, axis=1))[:, 0] / np.sqrt(model.dim)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            gates[layer] += (np.cumsum(weights, -1) / weights.sum(-1, keepdims=True)).mean(-1)
    return (gates / len(sequences)).reshape(model.layers, model.kv_heads, model.group).mean(-1)


PROFILES = {"razorattention": ("retrieval", echo_and_induction, "repeat"),
            "headkv": ("head_scores", retrieval_scores, "needle"),
            "compresskv": ("voting_heads", voting_heads, "needle"),
            "duoattention": ("gates", far_attention, "text")}


# Mutants that change nothing: {method: {(the line without outer blanks, the change): reason}}
_SHIFT = "probabilities do not change with what is taken from all logits"
UNNOTICED = {
    "headkv": {
        ('%P = kvcache.score.reduce sum "p" of %q over %c causal along [] : (!qw, !kvG) -> !rows',
         "sum -> max"):
            "nothing is reduced",
        ('%hit = kvcache.map "select(m == 1 & id == y, p, -1)" (m = %needle, id = %id, y = %y, p = %P) : ('
         '!pT, !pT, !made, !rows) -> !rows',
         "-1 -> 0"):
            "no probability is 0, so no entry is as good as the best",
        ('%at = kvcache.map "select(i == n - 1, p, -1)" (i = %i, n = %size, p = %sorted) : (!pT, !m, !rows'
         ') -> !rows',
         "1 -> 2"):
            "the last of so many entries has next to no probability",
        ('%at = kvcache.map "select(i == n - 1, p, -1)" (i = %i, n = %size, p = %sorted) : (!pT, !m, !rows'
         ') -> !rows',
         "-1 -> 0"):
            "no probability is below 0",
        ("%whole = kvcache.reduce sum %s over [layer, head, group] : (!table) -> !m",
         "sum -> max"):
            "what counts is whether it is above 0",
        ('%t = kvcache.map "select(w > 0, s, 1)" (w = %whole, s = %s) : (!m, !table) -> !table',
         "1 -> 2"):
            "shares are of the sum",
    },
    "compresskv": {
        ("kvcache.param @answer = 5 : index in [1, 4096]",
         "5 -> 6"):
            "a row within the prompt has produced nothing",
        ('%same = kvcache.map "select(m == 1 & id == y, 1, 0)" (m = %needle, id = %id, y = %y) : (!pT, !pT'
         ', !kvcache.tensor<query.win:?, i32>) -> !kvcache.tensor<query.win:?, token:?, f32>',
         "1 -> 2"):
            "twice the scores have the same order",
        ('%mass = kvcache.score.reduce sum "select(m == 1, t * p, 0)" (m = %needle, t = %times) of %q over'
         ' %c causal along [query.win] : (!qw, !kv, !pT, !kvcache.tensor<query.win:?, f32>) -> !sg',
         "sum -> max"):
            "the four heads of a layer keep their order on these needles",
        ('%mass = kvcache.score.reduce sum "select(m == 1, t * p, 0)" (m = %needle, t = %times) of %q over'
         ' %c causal along [query.win] : (!qw, !kv, !pT, !kvcache.tensor<query.win:?, f32>) -> !sg',
         "0 -> 1"):
            "adds the same number to every head",
    },
    "duoattention": {
        ("%most = kvcache.reduce max %z over [query] : (!sq) -> !hgq", "max -> min"): _SHIFT,
        ('%e = kvcache.map "exp((z - m) / sqrt(d))" (z = %z, m = %most, d = %d) : (!sq, !hgq, index) -> !sq', "- -> +"):
            _SHIFT,
        ('%g = kvcache.map "min(1, g)" (g = %far) : (!gates) -> !gates', "1 -> 2"): "a mean of sums of probabilities is at most 1",
    },
}


# ---- what the driver wrote

def sequences_of(path):
    file = read_safetensors(path)
    count = sum(name.endswith(".tokens") for name in file)
    return [(file[f"{i}.tokens"], {name.split(".", 1)[1]: value for name, value in file.items()
                                   if name.startswith(f"{i}.") and not name.endswith(".tokens")}) for i in range(count)]


def check_sequences(model, source, params, found, heldout):
    """The sequences are what the trigger of the phase says."""
    for tokens, tables in found:
        assert tokens[0] == BEGIN, tokens[:4]
        text = bytes(tokens[1:].astype(np.uint8))
        if source == "repeat":
            n = int(params["period"])
            assert len(text) == n * int(params["copies"]) and text == text[:n] * int(params["copies"])
            assert len(set(text[:n])) > min(n, 40) // 2, "the copies are not random"
        elif source == "text":
            assert len(tokens) == int(params["text_length"])
            place = next(whole.find(text) for whole in heldout if text in whole)
            assert place + len(text) <= next(len(whole) // 3 for whole in heldout if text in whole), "not for calibration"
        else:
            answer = tables["produced"][tables["produced"] >= 0]
            prompt = len(tokens) - len(answer) + 1
            assert prompt == int(params["needle_length"]) and text[:prompt - 1].endswith(QUESTION)
            needle = bytes(tokens[tables["needle"] == 1].astype(np.uint8))
            assert needle.startswith(b"The pass key is ") and needle.endswith(b". Remember it."), needle
            _, logits = model.run(tokens)
            assert (logits[prompt - 1:].argmax(-1) == answer).all(), "the answer is not the model's"
    expected = {"repeat": 1, "text": int(params.get("texts", 0)), "needle": int(params.get("needles", 0))}[source]
    assert len(found) == expected, (len(found), expected)
    assert len({tokens.tobytes() for tokens, _ in found}) == expected, "sequences are equal"


def calibrate(options, method, folder, settings):
    """Runs the driver; the artefacts, or None when it fails."""
    output, sequences = os.path.join(folder, "a.st"), os.path.join(folder, "s.st")
    command = [options.kvasir, "calibrate", method, "-o", output, "--sequences", sequences, "--model", options.model]
    command += ["--target", options.target] if options.target else []
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    if done.returncode != 0:
        return None, None, done.stderr
    return read_safetensors(output), sequences_of(sequences), ""


def difference(made, artefact, expected):
    """Why a table differs from the expected one; empty when it does not."""
    for layer in range(len(expected)):
        got = made[f"layers.{layer}.{artefact}"].astype(np.float64)  # each layer holds the table of all
        worst = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)
        if not worst <= 2e-3:
            return f"layer {layer}: {artefact} is off by {worst:.3g} of its largest\n{got}\nexpected\n{expected}"
    return ""


def judge(options, method, folder, settings, model, heldout):
    """(what differs from the transcription, the sequences, the expected table) of a run of the driver."""
    artefact, profile, source = PROFILES[options.method]
    made, found, error = calibrate(options, method, folder, settings)
    if made is None:
        return error, None, None
    params = {name[len("param."):]: value for name, value in made[METADATA].items() if name.startswith("param.")}
    check_sequences(model, source, params, found, heldout)
    expected = profile(model, [(tokens, tables, model.run(tokens)[0]) for tokens, tables in found], params)
    if expected.std() == 0:
        return f"the expected table says nothing: {expected}", found, expected
    return difference(made, artefact, expected), found, expected


def mutate(options, configurations, known):
    """Runs every mutant of the calibrate phases under each configuration until one notices."""
    with open(options.file, encoding="utf-8") as stream:
        text = stream.read()
    artefact = PROFILES[options.method][0]
    lines = mutations.calibration_lines(text)
    given = [f"@{name} =" for name in configurations[0]]
    candidates = [mutant for mutant in mutations.mutants(text) if mutant.line in lines
                  and not any(name in mutant.line_text for name in given)]
    survivors = []

    def notices(path, folder, settings, reference):
        made, found, _ = calibrate(options, path, folder, settings)
        return made is None or any(not np.array_equal(a[0], b[0]) for a, b in zip(found, reference[0])) \
            or bool(difference(made, artefact, reference[1]))

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mutant.mlir")
        for mutant in candidates:
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(mutant.text)
            if not any(notices(path, folder, settings, reference)
                       for settings, reference in zip(configurations, known)):
                survivors.append(mutant)
    unknown = [mutant for mutant in survivors
               if (mutant.line_text.strip(), mutant.change) not in UNNOTICED.get(options.method, {})]
    for mutant in unknown:
        print(f"SURVIVED line {mutant.line}: {mutant.change}\n  {mutant.line_text.strip()}")
    print(f"{'FAIL' if unknown else 'PASS'} {len(candidates)} mutants, {len(survivors) - len(unknown)} equivalent, "
          f"{len(unknown)} survived")
    return 1 if unknown or not candidates else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvasir", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--method", required=True, choices=sorted(PROFILES))
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, a parameter")
    parser.add_argument("--also", action="append", default=[], help="NAME=VALUE,..: another run with these changes")
    parser.add_argument("--target", default=None)
    parser.add_argument("--mutate", action="store_true")
    parser.add_argument("--file", default=None, help="the method's file, for --mutate")
    parser.add_argument("--timeout", type=float, default=300)
    options = parser.parse_args()
    configurations = [dict(pair.split("=", 1) for pair in options.set)]
    configurations += [{**configurations[0], **dict(pair.split("=", 1) for pair in change.split(","))}
                       for change in options.also]
    model = Model(options.model)
    heldout = []
    for name in sorted(os.listdir(options.model)):
        if name.startswith("heldout-"):
            with open(os.path.join(options.model, name), "rb") as stream:
                heldout.append(stream.read())
    known = []
    for settings in configurations:
        with tempfile.TemporaryDirectory() as folder:
            problem, found, expected = judge(options, options.method, folder, settings, model, heldout)
        if problem:
            print("FAIL", settings, problem)
            return 1
        known.append((found, expected))
    if options.mutate:
        return mutate(options, configurations, known)
    for settings, (found, expected) in zip(configurations, known):
        print(f"PASS {options.method}: {PROFILES[options.method][0]} {list(expected.shape)} from {len(found)} sequences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
