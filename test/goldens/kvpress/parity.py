# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Which method, parameters and budget of `kvasir apply` keep what a press of kvpress keeps. Table: one function a press.

A function takes the press's settings and the number of tokens; its result is (method, parameters, words that give the
budget). The same rules, in words, are in docs/parity.md.
"""


def _ratio(press):
    return ["--ratio", str(press["compression_ratio"])]


def _window(press):
    return {"window": press["window_size"], "kernel": press["kernel_size"], "pooling": "avg"}


def knorm(press, tokens):
    return "knorm", {}, _ratio(press)


def streaming(press, tokens):
    return "streaming-llm", {"positions": "original", "sinks": press.get("n_sink", 4)}, _ratio(press)


def streaming_rerotated(press, tokens):
    return "streaming-llm", {"positions": "cache", "sinks": press.get("n_sink", 4)}, _ratio(press)


def tova(press, tokens):
    return "tova", {"protect_newest": True}, _ratio(press)


def snapkv(press, tokens):
    return "snapkv", _window(press), _ratio(press)


def pyramid(press, tokens):
    """kvpress counts the window inside the slope, from 2 m - m / beta to m / beta entries with m = T (1 - ratio); ours
    lies on top of it, in whole numbers. The beta that gives the last layer as many entries gives the first as many."""
    window, mean = press["window_size"], tokens * (1 - press["compression_ratio"])
    least = mean / press["beta"]
    if least < window:
        return "pyramidkv", {**_window(press), "beta": 1}, ["--budget", str(max(1, round(mean)))]
    prefix, last = int(mean) - window, round(least) - window
    return "pyramidkv", {**_window(press), "beta": prefix // last if last else prefix + 1}, ["--budget", str(int(mean))]


def ada(press, tokens):
    return "ada-snapkv", {**_window(press), "floor": 0, "normalize": False}, _ratio(press)


def finch(press, tokens):
    counts = "shifted" if press.get("normalize_scores", True) else "none"
    return "finch", {"question": press["question"], "counts": counts, "chunk": press.get("chunk_length") or 0,
                     "rerotate": press.get("rerotate_keys", True)}, _ratio(press)


def kvcompose(press, tokens):
    names = ("structured", "agg_task", "add_mean_across_heads")
    return "kvcompose", {name: press[name] for name in names if name in press}, _ratio(press)


def observed(press, tokens):
    return "observed-attention", {"normalize": True, "window": 0}, _ratio(press)


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
}

# Of these only the numpy oracle is compared.
NOT_SHIPPED = {"finch"}

# Of these the rows of the second pass are in the file as well.
READ_TWICE = {"kvcompose"}

# By the case or else the press: what a method would need to keep the same.
MISSING = {
    "pyramid-capped": "pyramidkv: a parameter for a slope that has the window inside and ends at T - window entries, for "
                      "prompts shorter than twice the budget too",
    "ada-safeguard": "ada-snapkv: a parameter that makes `floor` force the best entries of a head, not mix budgets",
    "KeyRerotationPress(KnormPress)": "knorm: a parameter `positions` as streaming-llm has it",
    "DuoAttentionPress": "no method of this kind yet: head scores from mean queries and keys",
    "ThinKPress": "no method of this kind yet: keys without channels",
}


def missing(case, press):
    """What is missing for `case`, or None when a rule gives its settings."""
    return MISSING.get(case) or (None if press in RULES else MISSING[press])
