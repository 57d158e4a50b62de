# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Which method, parameters and budget keep what a press of kvpress keeps. Table: one function a press.

A function takes the press's settings and the number of tokens; its result is (method, parameters, words that give the
budget). Parameters are those of the method's oracle; what a call of the method says in a table instead follows from them
(extra_cases.as_called). The same rules, in words, are in docs/parity.md.
"""

LAYERS, KV_HEADS = 3, 2  # of the recorded models


def _ratio(press):
    return ["--ratio", str(press["compression_ratio"])]


def _window(press):
    return {"window": press["window_size"], "kernel": press["kernel_size"], "pooling": "avg"}


def knorm(press, tokens):
    return "knorm", {}, _ratio(press)


def knorm_rerotated(press, tokens):
    return "knorm", {"positions": "cache"}, _ratio(press)


def streaming(press, tokens):
    return "streaming-llm", {"positions": "original", "sinks": press.get("n_sink", 4)}, _ratio(press)


def streaming_rerotated(press, tokens):
    return "streaming-llm", {"positions": "cache", "sinks": press.get("n_sink", 4)}, _ratio(press)


def tova(press, tokens):
    return "tova", {"protect_newest": True}, _ratio(press)


def snapkv(press, tokens):
    return "snapkv", _window(press), _ratio(press)


def pyramid(press, tokens):
    """kvpress does not cut the mean T (1 - ratio) to a whole number before it slopes; ours does."""
    return "pyramidkv", {**_window(press), "slope": "whole", "beta": press["beta"]}, [
        "--budget", str(max(1, round(tokens * (1 - press["compression_ratio"]))))]


def ada(press, tokens):
    return "ada-snapkv", {**_window(press), "floor": press["alpha_safeguard"], "normalize": False,
                          "guarantee": "force"}, _ratio(press)


def finch(press, tokens):
    counts = "shifted" if press.get("normalize_scores", True) else "none"
    chunks = {"chunk": press["chunk_length"]} if press.get("chunk_length") else {}
    return "finch", {"question": press["question"], "counts": counts, "rerotate": press.get("rerotate_keys", True),
                     **chunks}, _ratio(press)


def kvcompose(press, tokens):
    names = ("structured", "agg_task", "add_mean_across_heads")
    return "kvcompose", {name: press[name] for name in names if name in press}, _ratio(press)


def observed(press, tokens):
    return "observed-attention", {"normalize": True, "window": 0}, _ratio(press)


def think(press, tokens):
    return "think", {"ratio": press["key_channel_compression_ratio"], "window": press["window_size"], "recent": 0}, []


def duo(press, tokens):
    """kvpress streams in the round(ratio N) lowest of N heads; the quantile of a share between two heads does the same."""
    heads = LAYERS * KV_HEADS
    streaming_heads = round(heads * press["head_compression_ratio"])
    return "duoattention", {"sinks": press["sink_size"], "recent": press["recent_size"],
                            "sparsity": (streaming_heads - 0.5) / (heads - 1)}, []


# By the press, as its case names it in the goldens' metadata.
RULES = {
    "KnormPress": knorm,
    "StreamingLLMPress": streaming,
    "KeyRerotationPress(StreamingLLMPress)": streaming_rerotated,
    "TOVAPress": tova,
    "SnapKVPress": snapkv,
    "PyramidKVPress": pyramid,
    "AdaKVPress(SnapKVPress)": ada,
    "FinchPress": finch,
    "KVComposePress": kvcompose,
    "ObservedAttentionPress": observed,
    "KeyRerotationPress(KnormPress)": knorm_rerotated,
    "DuoAttentionPress": duo,
    "ThinKPress": think,
}

# By the method: further inputs, as (file, its tensor, what the method calls it).
TABLES = {
    "kvcompose": [("second-pass", f"layers.{layer}.task.{side}", f"layers.{layer}.task.{side}")
                  for layer in range(LAYERS) for side in "qk"],
    "duoattention": [("kept", "duo.head_scores", "table.gates")],
}

# By the case, and the tokens where they matter: what a method would need to keep the same.
MISSING = {
    "finch-chunks": "finch: a context that is read in chunks",
    ("pyramid-capped", 150): "pyramidkv: a mean that is no whole number, on a slope that is capped",
}
# Of these the oracle keeps the same.
ONLY_BY_ORACLE = {"finch-chunks"}


def missing(case, tokens):
    """What is missing for `case`, or None when a rule gives its settings."""
    return MISSING.get(case) or MISSING.get((case, tokens))
