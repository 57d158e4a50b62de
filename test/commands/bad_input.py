# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""bad_input.py KVASIR SOURCE_ROOT: every command line below must exit with code 2 and say exactly one line, which
names what is at fault; nothing is written but the JSON report, which says the same."""
import json
import os
import resource
import struct
import subprocess
import sys

import numpy as np

ROOT = sys.argv[2]
sys.path.insert(0, os.path.join(ROOT, "test", "oracle"))
from cases import Case, make_inputs
from safetensors_io import METADATA, write_safetensors

BUDGET = ["--budget", "20"]


def write(path, change=None):
    """A dump of 2 layers, 4 query heads, 2 KV heads, D = 32, 50 tokens, 2 steps, after `change(tensors)`."""
    tensors = make_inputs(Case("bad", tokens=50, group=2, steps=2, seed=3))
    if change:
        change(tensors)
    write_safetensors(path, tensors)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, values):
    return lambda tensors: tensors.update({name: values})


def nan_keys(tensors):
    tensors["layers.1.k"] = tensors["layers.1.k"].copy()
    tensors["layers.1.k"][1, 7] = np.nan


def no_tokens(tensors):
    for name in list(tensors):
        if name.startswith("layers."):
            if ".step." in name or name.endswith("queries"):
                del tensors[name]
            else:
                tensors[name] = tensors[name][:, :0]


def few_queries(tensors):
    for layer in (0, 1):
        tensors[f"layers.{layer}.q"] = tensors[f"layers.{layer}.q"][:, -3:]


def without_queries(tensors):
    for layer in (0, 1):
        del tensors[f"layers.{layer}.queries"]


def bad_theta(tensors):
    del tensors["rope_inv_freq"]
    tensors[METADATA]["rope_theta"] = "many"


F32 = np.float32
# File name -> change of a good dump.
DUMPS = {
    "good": None,
    "no-k": drop("layers.0.k"),
    "no-v": drop("layers.1.v"),
    "hole": put("layers.3.k", np.zeros((2, 50, 32), F32)),
    "unknown": put("layers.0.keys", np.zeros(3, F32)),
    "stranger": put("cache", np.zeros(3, F32)),
    "rank": put("layers.0.k", np.zeros((2, 50), F32)),
    "shape": put("layers.1.v", np.zeros((2, 49, 32), F32)),
    "dtype": put("layers.0.k", np.zeros((2, 50, 32), np.int32)),
    "mixed": put("layers.1.v", np.zeros((2, 50, 32), np.float16)),
    "q-heads": put("layers.0.q", np.zeros((3, 50, 32), F32)),
    "half-steps": drop("layers.0.step.v"),
    "attribute": put("layers.0.attr.page", np.zeros(50, F32)),
    "positions": put("positions", np.arange(49)),
    "negative": put("positions", np.arange(50) - 1),
    "frequencies": put("rope_inv_freq", np.zeros(3, F32)),
    "theta": bad_theta,
    "nan": nan_keys,
    "empty": no_tokens,
    "few": few_queries,
    "no-queries": without_queries,
    "question": put("request.question", np.array([51], np.int32)),
    "keep": put("request.keep", np.zeros(49, np.int32)),
    "segments": put("request.segments", np.array([20, 20, 50], np.int32)),
    "param": lambda tensors: tensors[METADATA].update({"param.wndow": "3"}),
}


def raw_files():
    """Files that are no safetensors."""
    good = open("good.st", "rb").read()
    header = struct.unpack("<Q", good[:8])[0]
    files = {
        "cut.st": good[:-1],
        "short.st": good[:5],
        "lying.st": struct.pack("<Q", 1 << 60) + good[8:],
        "shifted.st": good[:8] + good[8:8 + header].replace(b'"data_offsets": [0,', b'"data_offsets": [4,') + good[8 + header:],
        "text.st": b"hello, this is a text and no cache",
        "malformed.mlir": b"kvcache.method @m {\n  kvcache.state @kv : !kv\n  kvcache.phse\n}\n",
        "one-line.mlir": b"kvcache.method @m {",
        "empty.txt": b"",
        "prompt.txt": b"In the beginning",
        "ids.json": b"[[256, 65, 100000]]",
    }
    for name, data in files.items():
        with open(name, "wb") as stream:
            stream.write(data)


def apply(method, dump, *more):
    return ["apply", method, "--kv", dump, "-o", "out.st", *more]


# (words, what the message must name)
CASES = [
    # The method, its parameters, the target.
    (apply("nonesuch", "good.st", *BUDGET), "error: unknown method 'nonesuch': expected"),
    (apply("one-line.mlir", "good.st", *BUDGET), "error: one-line.mlir:1:18: expected operation name"),
    (apply("missing.mlir", "good.st", *BUDGET), "missing.mlir"),
    (apply("malformed.mlir", "good.st", *BUDGET), "malformed.mlir:3:"),
    (apply("knorm", "good.st", *BUDGET, "--set", "windw=3"), "windw"),
    (apply("knorm", "good.st", *BUDGET, "--set", "skip_layers"), "skip_layers"),
    (apply("snapkv", "good.st", *BUDGET, "--set", "window=0"), "window"),
    (apply("snapkv", "good.st", *BUDGET, "--set", "window=many"), "window"),
    (apply("snapkv", "good.st", *BUDGET, "--set", "pooling=sum"), "pooling"),
    (apply("snapkv", "good.st", *BUDGET, "--set", "window=8", "--set", "window=9"), "twice"),
    (apply("kivi", "good.st", "--set", "k_bits=5"), "k_bits"),
    (apply("knorm", "param.st", *BUDGET), "wndow"),
    (apply("knorm", "good.st", *BUDGET, "--target", "abacus"), "abacus"),
    (apply("missing.kvx", "good.st"), "missing.kvx"),
    # The budget.
    (apply("knorm", "good.st"), "--budget"),
    (apply("kivi", "good.st", *BUDGET), "--budget"),
    (apply("knorm", "good.st", "--budget", "0"), "--budget 0"),
    (apply("knorm", "good.st", "--budget", "0.01"), "keeps 0 of 50"),
    (apply("knorm", "good.st", "--budget", "1.5"), "--budget 1.5"),
    (apply("knorm", "good.st", "--budget", "lots"), "--budget lots"),
    (apply("knorm", "good.st", "--budget", "-4"), "--budget -4"),
    (apply("knorm", "good.st", "--budget", "3TiB"), "--budget 3TiB"),
    (apply("knorm", "good.st", "--budget", "10B"), "--budget 10B"),
    (apply("knorm", "good.st", "--ratio", "1.0"), "keeps 0 of 50"),
    (apply("knorm", "good.st", "--ratio", "2"), "--ratio 2"),
    (apply("knorm", "good.st", *BUDGET, "--ratio", "0.5"), "both"),
    # The file.
    (apply("knorm", "missing.st", *BUDGET), "missing.st"),
    (apply("knorm", ".", *BUDGET), "."),
    (apply("knorm", "cut.st", *BUDGET), "cut.st"),
    (apply("knorm", "short.st", *BUDGET), "short.st"),
    (apply("knorm", "lying.st", *BUDGET), "lying.st"),
    (apply("knorm", "shifted.st", *BUDGET), "shifted.st"),
    (apply("knorm", "text.st", *BUDGET), "text.st"),
    (apply("knorm", "no-k.st", *BUDGET), "layers.0.k"),
    (apply("knorm", "no-v.st", *BUDGET), "layers.1.v"),
    (apply("knorm", "hole.st", *BUDGET), "layers.2.k"),
    (apply("knorm", "unknown.st", *BUDGET), "layers.0.keys"),
    (apply("knorm", "stranger.st", *BUDGET), "cache"),
    (apply("knorm", "rank.st", *BUDGET), "layers.0.k"),
    (apply("knorm", "shape.st", *BUDGET), "layers.1.v: expected shape [2, 50, 32], got [2, 49, 32]"),
    (apply("knorm", "dtype.st", *BUDGET), "layers.0.k: expected F32, F16 or BF16, got I32"),
    (apply("knorm", "mixed.st", *BUDGET), "layers.1.v: expected F32"),
    (apply("knorm", "q-heads.st", *BUDGET), "layers.0.q"),
    (apply("knorm", "half-steps.st", *BUDGET), "step.v"),
    (apply("knorm", "attribute.st", *BUDGET), "layers.0.attr.page"),
    (apply("knorm", "positions.st", *BUDGET), "positions"),
    (apply("knorm", "negative.st", *BUDGET), "positions"),
    (apply("knorm", "frequencies.st", *BUDGET), "rope_inv_freq"),
    (apply("knorm", "theta.st", *BUDGET), "rope_theta"),
    (apply("knorm", "nan.st", *BUDGET), "NaN"),
    (apply("knorm", "nan.st", *BUDGET, "--target", "reference"), "not a number"),
    (apply("knorm", "empty.st", *BUDGET), "at least one token"),
    (apply("snapkv", "few.st", *BUDGET), "layers.0.q: method 'snapkv' needs the last 50 query rows, got 3"),
    (apply("h2o", "few.st", *BUDGET), "layers.0.q"),
    (apply("knorm", "no-queries.st", *BUDGET, "--attend"), "layers.0.queries"),
    # Tables of a request.
    (apply("finch", "good.st", *BUDGET), "needs the request table 'question'"),
    (apply("finch", "question.st", *BUDGET),
     "question.st: request.question: expected a number of tokens from 0 to 50, of a prompt of 50 tokens, got 51"),
    (apply("fair", "keep.st", *BUDGET), "keep.st: request.keep: expected a 0 or 1 for each token, of a prompt of 50 tokens, "
     "got 0,0,0,0,0,0,0,0,.. (49 entries)"),
    (apply("fair", "segments.st", *BUDGET), "segments.st: request.segments: expected ascending rows from 1 on that end with "
     "the prompt, of a prompt of 50 tokens, got 20,20,50"),
    (["run", "finch", "--prompt", "prompt.txt", *BUDGET, "--request", "question=18"],
     "prompt.txt: --request question: expected a number of tokens from 0 to 17, of a prompt of 17 tokens, got 18"),
    (["run", "finch", "--prompt", "prompt.txt", *BUDGET, "--request", "question=-1"], "--request question: expected a number"),
    (["run", "finch", "--prompt", "prompt.txt", *BUDGET, "--request", "question=two"], "--request question=two: expected NAME="),
    (apply("pca", "good.st", "--calib", "no-k.st"), "no-k.st"),
    (["apply", "knorm", "--kv", "good.st", "-o", "nowhere/out.st", *BUDGET], "nowhere/out.st"),
    (["apply", "knorm", "--kv", "good.st", *BUDGET], "--output"),
    # Models and prompts.
    (["run", "dense", "--model", "nowhere", "--prompt", "prompt.txt"], "nowhere"),
    (["run", "dense", "--prompt", "missing.txt"], "missing.txt"),
    (["run", "dense", "--prompt", "empty.txt"], "empty.txt"),
    (["run", "dense", "--tokens", "ids.json"], "100000"),
    (["run", "dense"], "--prompt"),
    (["run", "dense", "--prompt", "prompt.txt", "--max-new-tokens", "0"], "--max-new-tokens"),
    (["run", "kivi", "--prompt", "prompt.txt", "--budget", "0.5"], "--budget 0.5"),
    (["run", "dense", "--prompt", "prompt.txt", "--threads", "-3"], "threads"),
    (["run", "dense", "--prompt", "prompt.txt", "--threads", "x"], "--threads x: expected an integer"),
    (["bench", "attend", "--threads", "x"], "--threads x: expected an integer"),
    (["bench", "attend", "--kept", "most"], "--kept most: expected a number"),
    # Compilation.
    (["compile", "dense"], "-o FILE"),
    (["compile", "dense", "--geometry", "L=2", "-o", "out.st"], "Hq"),
    (["compile", "dense", "--geometry", "L=2,Hq=3,Hkv=2,D=32", "-o", "out.st"], "Hq"),
    (["compile", "dense", "--geometry", "L=0", "-o", "out.st"], "L"),
    (["compile", "dense", "--geometry", "depth=3", "-o", "out.st"], "depth"),
    (["compile", "dense", "--geometry", "act=f8", "-o", "out.st"], "act"),
    (["compile", "dense", "--isa", "v9", "-o", "out.st"], "v9"),
    (["compile", "dense", "--emit", "mlir:sideways"], "sideways"),
    (["compile", "dense", "--emit", "so"], "-o FILE"),
    (["compile", "dense", "--target", "reference", "-o", "out.st"], "reference"),
    (["compile", "dense", "-o", "nowhere/out.kvx"], "nowhere/out.kvx"),
    (["explain", "nonesuch"], "nonesuch"),
    (["explain", "dense", "--geometry", "T=0"], "T"),
    (["verify", "nonesuch"], "nonesuch"),
    (["verify", "dense", "--targets", "abacus"], "abacus"),
    # The command line.
    (["conquer"], "conquer"),
    ([], "subcommand"),
    (["methods", "--colour"], "--colour"),
]


def check(words, text, prepare=None):
    """Problems of one refused command line."""
    report = "report.json"
    json_words = ["--json", report] if words and words[0] != "conquer" else []
    done = subprocess.run([sys.argv[1], *words[:1], *json_words, *words[1:]], capture_output=True, text=True, timeout=120,
                          preexec_fn=prepare, restore_signals=prepare is None)
    lines = done.stderr.splitlines()
    problems = []
    if done.returncode != 2:
        problems.append(f"exit code {done.returncode}, expected 2")
    if len(lines) != 1 or not lines[0].startswith("error: "):
        problems.append("expected exactly one line 'error: ...'")
    if text not in done.stderr:
        problems.append(f"expected '{text}' in the message")
    if done.stdout:
        problems.append("expected nothing on stdout")
    leftovers = [name for name in os.listdir(".") if name.startswith(("out.st", "out.kvx"))]
    if leftovers:
        problems.append(f"left {leftovers}")
    if os.path.exists(report):
        said = json.load(open(report))
        if said["ok"] or "error: " + said["error"] != lines[0] or said["schema"] != f"kvasir.{words[0]}/1":
            problems.append("the JSON report does not say the same")
        os.remove(report)
    elif json_words and prepare is None:
        problems.append("no JSON report")
    for problem in problems:
        print(f"kvasir {' '.join(words)}: {problem}\n  {done.stderr.strip()[:400]}")
    return problems


def main():
    for name, change in DUMPS.items():
        write(name + ".st", change)
    raw_files()
    failed = sum(bool(check(words, text)) for words, text in CASES)
    # A disk that takes 4 KiB: writing fails in the middle, of the result and of what the linker needs.
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    failed += bool(check(apply("knorm", "good.st", *BUDGET, "--target", "reference"), "out.st", full))
    failed += bool(check(apply("knorm", "good.st", *BUDGET), "cannot write", full))
    print(f"{failed} of {len(CASES) + 2} command lines are not refused as they should")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
