# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Textual mutants of a method file: one changed constant, one exchanged word or one exchanged operator.

Left as they are: comments, `info`, legal ranges and sets (`in [..]`, `in {..}`: what a call may ask for, not what
it computes), symbol names, plain types, and the default of `@budget`: it is what --budget sets, and without one
`apply` is given nothing to keep to.
A mutant that cannot change any result may be listed in EQUIVALENT with its reason.
"""
import re
from dataclasses import dataclass

# Words to exchange wherever they stand alone in the text: op functions, flags, triggers, ends, orders.
EXCHANGES = {
    "sum": "max", "mean": "max", "max": "min", "min": "max", "avg": "max", "argmax": "argmin", "first": "last",
    "last": "first", "newest": "oldest", "oldest": "newest", "true": "false", "false": "true", "causal": "",
    "cosine": "l2", "l2": "cosine", "add": "set", "set": "add", "original": "cache", "cache": "original",
    "prompt_end": "step_end", "step_end": "prompt_end", "inverse": "",
    "floor": "ceil", "ceil": "floor", "round": "floor", "rint": "floor", "sqrt": "abs", "abs": "neg",
    "min_f16": "min_f32", "scale_f16": "scale_f32", "zp_f16": "zp_f32",
    "eq": "ne", "ne": "eq", "ge": "lt", "gt": "le", "le": "gt", "lt": "ge", "oge": "olt", "ogt": "ole", "ole": "ogt",
    "olt": "oge", "sge": "slt", "sgt": "sle", "sle": "sgt", "slt": "sge",
    "arith.addf": "arith.subf", "arith.subf": "arith.addf", "arith.mulf": "arith.addf", "arith.divf": "arith.mulf",
    "arith.addi": "arith.subi", "arith.subi": "arith.addi", "arith.muli": "arith.addi", "arith.divsi": "arith.muli",
    "arith.floordivsi": "arith.ceildivsi", "arith.ceildivsi": "arith.floordivsi", "arith.divui": "arith.muli",
    "arith.maximumf": "arith.minimumf", "arith.minimumf": "arith.maximumf", "arith.maxsi": "arith.minsi",
    "arith.minsi": "arith.maxsi", "arith.negf": "math.absf", "math.absf": "arith.negf", "math.sqrt": "math.absf",
    "index.add": "index.sub", "index.sub": "index.add", "index.mul": "index.add", "index.divs": "index.mul",
    "index.divu": "index.mul", "index.floordivs": "index.ceildivs", "index.ceildivs": "index.floordivs",
    "index.maxs": "index.mins", "index.mins": "index.maxs", "index.maxu": "index.minu", "index.minu": "index.maxu",
}
OPERATORS = {"+": "-", "-": "+", "*": "+", "/": "*", "<": ">", ">": "<", "<=": ">", ">=": "<", "==": "!=",
             "!=": "==", "&&": "||", "||": "&&"}

# {method: {(the line without outer blanks, the change): reason}}
# `apply` answers with the cache and the outputs of steps and probes, which see every row; what causal hides from the
# earlier rows of a prompt shows in generated text only, where test/e2e/all-kept.test compares it with dense.
_PROMPT_OUTPUTS = "apply writes no outputs of prompt rows; all-kept.test catches this one"
_MODEL_OUTPUTS = "apply writes no outputs of prompt rows; test/methods/thinning.test catches this one"
_SLACK = "either is more than rounding and less than the distance between ratios"
_SCALE = "a covariance times a positive number has the same eigenvectors in the same order"
_SPARE_WORD = "at most one word more, which nothing reads"
_OWN_STATE = "a method without a state has this one, and nothing reads the one beside @raw"
_ANY = "what counts is whether there is any"
_LONGER_THAN_CASES = "differs only in sequences longer than those of the cases"
EQUIVALENT = {
    "fastgen": {
        ("kvcache.param @history = 400 : i64 in [1, 4096]",
         "400 -> 401"): _LONGER_THAN_CASES,
        ('%is1 = kvcache.map "select(i == a, 1, 0)" (i = %ids, a = %special) : (!p, !ids) -> !is',
         "1 -> 2"): "what counts is whether the sum is above 0",
        ('%is2 = kvcache.map "select(i == a, 1, 0)" (i = %ids, a = %marks) : (!p, !ids) -> !is',
         "1 -> 2"): "what counts is whether the sum is above 0",
        ("%some1 = kvcache.reduce sum %is1 over [code.id] : (!is) -> !p",
         "sum -> max"): "an id stands in a list once",
        ("%some2 = kvcache.reduce sum %is2 over [code.id] : (!is) -> !p",
         "sum -> max"): "an id stands in a list once",
        ("kvcache.phase compress (%q = last_queries(1048576) : !qw, %late = last_queries(history) : !ql, %kv "
         "= @kv : !kvf, %T = length : index, %f = @global_tokens : index, %h = @heavy : f32, %l = @local : "
         "f32, %share = @recovery : f32, %H = @history : i64) on(prompt_end) {",
         "1048576 -> 1048577"): "no prompt is that long",
        ("%o = kvcache.attend %q over %c causal : (!q, !kvf) -> !o",
         "causal -> nothing"): "apply writes no outputs of prompt rows; test/methods/policies.test catches this one",
        ('%near = kvcache.score.reduce sum "select(w - i < max(1, floor(l * T + 0.0001)), p, 0)" (w = %w, i = '
         '%i, l = %l, T = %T) of %q over %kv causal mean [group] along [query.win] : (!qw, !kvf, !w, !pT, '
         'f32, index) -> !s',
         "0.0001 -> 0.00015000000000000001"): _SLACK,
        ('%n = kvcache.map "ceil(h * T - 0.0001)" (h = %h, T = %T) : (f32, index) -> !n',
         "0.0001 -> 0.00015000000000000001"): _SLACK,
        ('%least = kvcache.map "select(i < f | c == 1, 0, select(c == 2, 1, select(top > -inf, 2, select(T - '
         '1 - i < max(1, floor(l * T + 0.0001)), 3, 4))))" (c = %class, i = %i, f = %f, top = %top, T = %T, l '
         '= %l) : (!i, !pT, index, !s, index, f32) -> !i',
         "0.0001 -> 0.00015000000000000001"): _SLACK,
        ('%gone = kvcache.map "select(pol == 4 | t <= f | c == 1 | (c == 2 & pol > 0) | (pol > 1 & n <= f + m '
         '+ ceil(h * T - 0.0001) + select(pol == 3, max(1, floor(l * T + 0.0001)), 0)), 0, 1)" (pol = %pol, t '
         '= %t, f = %f, c = %mine, n = %n, m = %marked, h = %h, T = %T, l = %l) : (!hb, index, index, !n, '
         '!hb, !hb, f32, index, f32) -> !hb',
         "0.0001 -> 0.00015000000000000001"): _SLACK,
        ('%s = kvcache.map "select(pol < 2, i, select(i < f | c > 0 | i >= n - select(pol == 3, max(1, '
         'floor(l * T + 0.0001)), 1), -inf, -(sum / rows)))" (pol = %pol, i = %i, f = %f, c = %classes, n = '
         '%n, l = %l, T = %T, sum = %sum, rows = %rows) : (!hb, !pT, index, !i, !hb, f32, index, !s, !i) -> !s',
         "0.0001 -> 0.00015000000000000001"): _SLACK,
        ('%x0, %x1, %x2, %x3 = kvcache.map "select(least == 0, all, 0); select(least <= 1, all, 0); '
         'select(least <= 2, all, 0); select(least <= 2, all, near)" (least = %least, all = %all, near = '
         '%near) : (!i, !s, !s) -> (!s, !s, !s, !s)',
         "2 -> 3"): "of the two, the last: all rows that see an entry of the last window are near it",
        ('%p = kvcache.score.reduce sum "max(p, 1e-30)" of %late over %kv causal mean [group] along [] : '
         '(!ql, !kvf) -> !p3',
         "1e-30 -> 1.5000000000000001e-30"): "above 0, and nothing beside what attention gives",
        ('%seen = kvcache.map "r = t - 1; select(x == r - H * floor(r / H), max(a, 1e-30), old)" (x = %place, '
         't = %t, H = %H, a = %a, old = %old) : (!c, index, i64, !s, !seen) -> !seen',
         "1e-30 -> 1.5000000000000001e-30"): "above 0, and nothing beside what attention gives",
        ("%mine = kvcache.reduce max %class over [query] : (!p) -> !n",
         "max -> min"): "a step has one row",
    },
    "shotkv": {
        ('%ones = kvcache.map "1" (x = %best1) : (!one) -> !one',
         "1 -> 2"): "what counts is whether it is above 0",
        ("%chosen = kvcache.scatter set %ones into %none at %best : (!one, !m, !taken) -> !m",
         "set -> add"): "into zeros, and every shot is named once",
        ('%kept = kvcache.map "select(T <= B | f > 0, 1, x * c)" (T = %T, B = %B, f = %f, x = %in, c = '
         '%chosen) : (index, index, !pT, !st, !m) -> !st',
         "1 -> 2"): "what counts is whether it is above 0",
        ("%newest = kvcache.reduce max %p over [query] : (!p) -> !n",
         "max -> min"): "a step has one row",
        ("%last = kvcache.reduce max %pos over [head] : (!pH) -> !pT",
         "max -> min"): "all heads hold the same entries",
        ('%n = kvcache.map "prompt + max(1, floor(r * t + 0.0001))" (prompt = %prompt, r = %r, t = %t) : (!n, '
         'f32, index) -> !n',
         "0.0001 -> 0.00015000000000000001"): _SLACK,
    },
    "quest": {
        ("%o = kvcache.attend %q over %c at %read causal : (!q, !kv, !read) -> !o", "causal -> nothing"):
            "the row of a step sees every entry",
    },
    "razorattention": {
        ("kvcache.param @local = 4000 : index in [0, 1048576]", "4000 -> 4001"): _LONGER_THAN_CASES,
        ('%o = kvcache.attend %q over %c causal logit "select(w, z + log(m + 1), z)" (w = %w, m = %m) : '
         "(!q, !kvm, i1, !i) -> !o", "causal -> nothing"): "the row of a step sees every entry",
    },
    "duoattention": {
        ("kvcache.artefact @gates : !gates else -1.0", "-1.0 -> -1.5"): "any number below 0 stands for no gates",
    },
    "evolkv": {
        ("kvcache.artefact @budgets : !mL from file else 1.0", "1.0 -> 1.5"): "the vector is scaled to the budget",
    },
    "dynamickv": {
        ('%due = kvcache.map "select(m == every * floor(m / every) | final & m == L, 1, 0)" (m = %seen, every = %every, '
         'final = %final, L = %L) : (!iS, index, i1, index) -> !iS', "floor -> ceil"): "multiples are rounded neither way",
        ("%sum1 = kvcache.reduce sum %c1 over [layer] : (!iLS) -> !iS", "sum -> max"): _ANY,
        ("%rawSum = kvcache.reduce sum %raw0 over [layer] : (!iLS) -> !iS", "sum -> max"): _ANY,
        ("%one = arith.constant 1 : index", "1 -> 2"): "a sum of 1 is the share of one layer, which gets all in either case",
    },
    "scope": {
        ("kvcache.param @recent = 256 : index in [0, 1048576]", "256 -> 257"): _LONGER_THAN_CASES,
        ("kvcache.param @decode_window = 512 : index in [0, 1048576]", "512 -> 513"): _LONGER_THAN_CASES,
        ("kvcache.param @max_new = 4096 : index in [1, 1048576]", "4096 -> 4097"): _LONGER_THAN_CASES,
        ("%o, %row = kvcache.attend %q over %c causal stats(sum(p, over(query))) : (!q, !kvv) -> (!o, !sg)",
         "causal -> nothing"): "the row of a step sees every entry",
        ('%limit = kvcache.map "delta = max(floor((most - r) / max(W - r, 1)), 1); by = floor((step - 1) / delta); '
         'grown = min(r + by, W); due = step - 1 == by * delta; select(mode == 0, W, select(mode == 1 | due, grown,'
         ' 1048576))" (step = %step, mode = %mode, r = %r, W = %W, most = %most) : (index, index, index, index, ind'
         'ex) -> !n', "1048576 -> 1048577"): "no cache is that long",
    },
    "ada-snapkv": {
        ('%sure = kvcache.map "select(i + w < floor(f * B + 0.001), inf, s)" (i = %i, w = %w, f = %f, B = %B, s = %sorted) : '
         "(!pT, index, f32, index, !sG) -> !sG", "0.001 -> 0.0015"): _SLACK,
    },
    "windowkv": {
        ('%mean = kvcache.map "select(n * j < T - W, sum / min(half, T - W - n * j), -inf)" (sum = %sum, half = %half, T = %T, '
         "W = %W, n = %n, j = %j) : (!sgb, !n, index, i64, index, !j) -> !sgb", "- -> +"):
            "of the four, that of the condition: blocks of the suffix have no votes, and rank last",
        ('%step = kvcache.map "floor((2 * C - 2 * low) / max(1, groups - 1))" (C = %C, low = %low, groups = %groups) : '
         "(!n, !n, !n) -> !n", "1 -> 2"): "one group and two have no steps in between",
        ('%k = kvcache.map "select(T <= B, J, select(B <= W, 0, select(T - W <= b, J, ceil((T - W) / n) - ceil((T - W - b) / n))))" '
         "(T = %T, B = %B, J = %J, W = %W, b = %b, n = %n) : (index, index, index, i64, !n, index) -> !n", "- -> +"):
            "of the four, that of the condition: where all blocks fit, the difference is their number or more",
    },
    "fair": {
        ('%one = kvcache.map "1" (x = %top) : (!found) -> !found', "1 -> 2"): _ANY,
        ("%chosen = kvcache.scatter set %one into %none at %best : (!found, !s, !best) -> !s", "set -> add"): _ANY,
    },
    "finch": {
        ("kvcache.state @kv : !kv when(@rerotate = false)", "false -> true"): _OWN_STATE,
        ("%o = kvcache.attend %qr over %view causal : (!q, !kv) -> !o", "causal -> nothing"): _PROMPT_OUTPUTS,
    },
    "headkv": {
        ("kvcache.artefact @head_scores : !table else 1.0", "1.0 -> 1.5"): "shares are of the sum",
    },
    "compresskv": {
        ("kvcache.artefact @voting_heads : !table else 1.0", "1.0 -> 1.5"): "votes are averaged",
        ("kvcache.artefact @importance : !mL from file else 1.0", "1.0 -> 1.5"): "shares are of the sum",
    },
    "think": {
        ("%mask = kvcache.scatter set %one into %none at %kept : (!ones, !low, !kept) -> !low", "set -> add"):
            "into zeros, and every channel is named once",
    },
    "fastkv": {
        ("kvcache.param @tsp_length = 2048 : index in [1, 1048576]", "2048 -> 2049"): _LONGER_THAN_CASES,
        ("%o = kvcache.attend %q over %c causal : (!q, !kv) -> !o", "causal -> nothing"): _MODEL_OUTPUTS,
        ('%m = kvcache.map "select(l == tsp & T > max(B, W), select(share == 1, floor(T * rate + 0.0001), N), T)" (l = %l, '
         "tsp = %tsp, T = %T, B = %B, W = %W, share = %share, rate = %rate, N = %N) : (index, index, index, index, index, "
         "index, f32, index) -> !n", "0.0001 -> 0.00015000000000000001"): _SLACK,
        ('%C = kvcache.map "select(share == 1 & l > tsp, floor(T * B / (P * rate) + 0.0001), B)" (share = %share, l = %l, '
         "tsp = %tsp, T = %T, B = %B, P = %P, rate = %rate) : (index, index, index, index, index, index, f32) -> !n",
         "0.0001 -> 0.00015000000000000001"): _SLACK,
    },
    "kvcompose": {
        ("kvcache.param @keep_lower_bound = 0 : index in [0, 1048576]", "0 -> 1"): "every layer keeps its best entry anyway",
        ("%o = kvcache.attend %q over %c causal : (!q, !kva) -> !o", "causal -> nothing"):
            "apply takes the rows of the second pass from the file, so what they attend to reaches nothing",
    },
    "knorm": {
        ("kvcache.param @prune_after = 0 : index", "0 -> 1"): "no prompt has fewer than one token",
        ('kvcache.state @kv : !kv when(@positions = "original")', "original -> cache"): _OWN_STATE,
        ("%o = kvcache.attend %qr over %view causal : (!q, !kv) -> !o", "causal -> nothing"): _PROMPT_OUTPUTS,
    },
    "tova": {
        ("%o, %row = kvcache.attend %q over %c causal stats(sum(p, over(query), last(1))) : (!q, !kvl) -> (!o, !sg)",
         "causal -> nothing"): _PROMPT_OUTPUTS,
    },
    "dbudgetkv": {
        ("%a = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win), last(1))) : (!qw, !kvG) -> !a",
         "causal -> nothing"): "the newest row sees every entry",
        ("%a = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win), last(1))) : (!qw, !kvG) -> !a",
         "1 -> 2"): "the window has one row",
        ("kvcache.phase select (%e = energy : !a, %q = last_queries(1048576) : !qw, %kv = @kv : !kvG, %T = length : index, "
         "%theta = @theta : f32, %safe = @safe : index) layers(except(@skip_layers)) on(prompt_end) when(@order = \"h2o\") {",
         "1048576 -> 1048577"): "no prompt is that long",
        ('%before = kvcache.map "select(y < x | y == x & j < i, 1, 0)" (x = %x, y = %y, i = %i, j = %j) : '
         "(!sG, !other, !pT, !place) -> !pairs", "< -> >"): "only the newest have equal sums, and they stay in any order",
    },
    "streaming-llm": {
        ('kvcache.state @kv : !kv when(@positions = "original")',
         "original -> cache"): "the default state has that name and type, and one that no phase names is left out",
        ("%o = kvcache.attend %qr over %view causal : (!q, !kv) -> !o", "causal -> nothing"): _PROMPT_OUTPUTS,
    },
    "a2sf": {
        ('%o = kvcache.attend %q over %c causal : (!q, !kva) -> !o',
         "causal -> nothing"): _PROMPT_OUTPUTS,
    },
    "corm": {
        ('kvcache.param @words = "(window + 23) / 24" : i64 in [1, 171]', "23 -> 24"): _SPARE_WORD,
        ('kvcache.param @recent = 256 : index in [0, 1048576]', "256 -> 257"): _LONGER_THAN_CASES,
        ('%b = kvcache.score.reduce sum "select(p * t >= 1, 1, 0)" (t = %t) of %q over %kv causal along [group'
         '] : (!qw, !kvh, !win) -> !bits',
         "1 -> 2"): "what counts is whether the sum is above 0",
        ('%e = kvcache.map "select(floor((t - w * floor(t / w)) / 24) == i, t - w * floor(t / w) - 24 * i, -in'
         'f)" (t = %t, w = %w, i = %i) : (!win, index, !i) -> !place',
         "24 -> 25"): "bits lie elsewhere, each once; no case of more than a word wraps around",
        ('%each = kvcache.score.reduce max "1" of %q over %c along [query, group] : (!q, !kvh) -> !s',
         "1 -> 2"): "what counts is that it is not 0",
    },
    "roco": {
        ('%o = kvcache.attend %q over %x causal : (!q, !kvr) -> !o',
         "causal -> nothing"): _PROMPT_OUTPUTS,
        ('%M, %w, %gone = kvcache.map "M = B + c * ratio; N = t + c * floor((M - t) / c); M; select(t > P | all | t - '
         'm >= N - c, 1.0, 0); max(0, select(t > P, select(mode == 1, 0, n - B), n - N))" (B = %B, c = %c, ratio = %ra'
         'tio, t = %t, P = %P, mode = %mode, n = %n, m = %m, all = %all) : (index, index, index, index, index, index, '
         'index, index, i1) -> (!n, !n, !n)',
         "1.0 -> 1.5"): "becomes 1 again in i32",
        ('%F = kvcache.map "R = select(P <= B, B - P, B); select(t > P, max(1, R - floor(rr * R)), max(M - floor(er * '
         'M) - sinks, gone))" (M = %M, B = %B, t = %t, P = %P, rr = %rr, er = %er, sinks = %sinks, gone = %gone) : (!n'
         ', index, index, index, f32, f32, index, !n) -> !n',
         "1 -> 2"): "in no case of auto does a single entry compete",
        ('%low, %still = kvcache.map "mean = sum / max(rows, 1); -mean; select(i < P & t > P & P <= B, -inf, select(i '
         '>= n - safe | (t == P & i < sinks), -1, -max(0, squares / max(rows, 1) - mean * mean)))" (t = %t, P = %P, B '
         '= %B, i = %i, n = %n, safe = %safe, sinks = %sinks, sum = %sum, squares = %squares, rows = %rows) : (index, '
         'index, index, !pT, index, index, index, !s, !s, !s) -> (!s, !s)',
         "1 -> 2"): "what one row has seen is safe in the cases",
    },
    "scissorhands": {
        ('kvcache.param @window = 400 : index in [1, 4096]', "400 -> 401"): _LONGER_THAN_CASES,
        ('kvcache.param @words = "(window + 23) / 24" : i64 in [1, 171]', "23 -> 24"): _SPARE_WORD,
        ('kvcache.param @words = "(window + 23) / 24" : i64 in [1, 171]', "24 -> 25"): _LONGER_THAN_CASES,
        ('%s = kvcache.map "select(i < n - r, u, 0)" (i = %i, n = %n, r = %r, u = %u) : (!pT, index, index, !s) -> !s',
         "0 -> 1"): "no case drops an entry with less than two such rows",
    },
    "pca": {
        ('%kcov = kvcache.map "x / n" (x = %kk, n = %n) : (!kk, index) -> !kk', "/ -> *"): _SCALE,
        ('%vcov = kvcache.map "x / n" (x = %vv, n = %n) : (!vv, index) -> !vv', "/ -> *"): _SCALE,
    },
}

_NUMBER = re.compile(r"(?<![\w.%@#!$^])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"(?<![\w.%@#!$^])[a-z][a-z0-9_]*(?:\.[a-z]+)?(?![\w.])")
_OPERATOR = re.compile(r"<=|>=|==|!=|&&|\|\||(?<=[\w) ])[-+*/<>](?=[\w( ])")
_STRING = r"\"(?:[^\"\\]|\\.)*\""
_NAME = re.compile(r"@" + _STRING)
_INFO = re.compile(r"\binfo\s*\{[^}]*\}")
_RANGE = re.compile(r"\bin\s*(?:\[[^\]]*\]|\{[^}]*\})")
_BUDGET = re.compile(r"@budget\s*=\s*\d+")
_COMMENT = re.compile(_STRING + r"|//[^\n]*")


@dataclass
class Mutant:
    """One changed copy of a method file."""
    text: str
    line: int         # 1-based
    line_text: str    # the original line
    change: str       # "old -> new"


def mutants(source):
    """Every mutant of a method file, in the order of the text."""
    visible = _without_prose(source)
    edits = [(match.start(), match.end(), _changed_number(match.group())) for match in _NUMBER.finditer(visible)]
    edits += [(match.start(), match.end(), EXCHANGES[match.group()]) for match in _WORD.finditer(visible)
              if match.group() in EXCHANGES]
    for string in re.finditer(_STRING, visible):
        edits += [(match.start(), match.end(), OPERATORS[match.group()])
                  for match in _OPERATOR.finditer(visible, string.start() + 1, string.end() - 1)]
    return [_mutant(source, *edit) for edit in sorted(edits)]


def calibration_lines(source):
    """Numbers of the lines that only calibration on sequences runs, which `apply` does not: the phases, and parameters
    that nothing else names. head_profiles.py changes those."""
    lines, found, inside = source.splitlines(), set(), False
    for number, line in enumerate(lines, 1):
        starts = line.startswith("  kvcache.phase calibrate ") and (" on(" in line or " scope(model)" in line)
        inside = inside or starts
        if inside:
            found.add(number)
        inside = inside and line != "  }"
    rest = "\n".join(line for number, line in enumerate(lines, 1)
                     if number not in found and not line.lstrip().startswith("//"))
    for number, line in enumerate(lines, 1):
        name = re.match(r"  kvcache\.param @(\w+)", line)
        if found and name and len(re.findall(rf"\b{name[1]}\b", rest)) == 1:
            found.add(number)
    return found


def is_equivalent(method, mutant):
    """Whether the mutant is listed as one that cannot change a result."""
    return (mutant.line_text.strip(), mutant.change) in EQUIVALENT.get(method, {})


def stale_equivalents(method, source):
    """Listed equivalents that the file no longer has."""
    present = {(mutant.line_text.strip(), mutant.change) for mutant in mutants(source)}
    return [entry for entry in EQUIVALENT.get(method, {}) if entry not in present]


def _without_prose(source):
    """The source with everything that no mutant may touch blanked, every offset unchanged."""
    def blank(match):
        return " " * len(match.group())
    source = _COMMENT.sub(lambda match: match.group() if match.group().startswith('"') else blank(match), source)
    for pattern in (_NAME, _INFO, _RANGE, _BUDGET):
        source = pattern.sub(blank, source)
    return source


def _changed_number(text):
    if re.search(r"[.eE]", text):
        value = float(text)
        return repr(value * 1.5 if value else 0.5)
    return str(int(text) + 1)


def _mutant(source, start, end, new):
    begin = source.rfind("\n", 0, start) + 1
    stop = source.find("\n", end)
    line_text = source[begin:stop if stop >= 0 else len(source)]
    return Mutant(source[:start] + new + source[end:], source.count("\n", 0, start) + 1, line_text,
                  f"{source[start:end]} -> {new or 'nothing'}")
