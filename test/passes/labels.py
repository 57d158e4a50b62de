# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Labels follow from where values come from, and from nothing else: labels.py KVASIR-OPT FILE.

Each method of FILE has a comment `// why | labels` above it. The labels must be those, and stay the same when every name that a
method gives is another one, when phases and the ops in them stand in another order, and when the method is composed with one
that adds nothing and with one that codes its values. Every label stands on a method and is missing from another.
"""
import random
import re
import subprocess
import sys

LABELS = ("append-only", "page-safe", "chunked-prefill-honest", "multi-turn-safe", "needs-question", "needs-extra-pass",
          "needs-training", "needs-calibration")
METHOD = re.compile(r"^// [^|\n]*\| ([\w -]+)\n(kvcache\.method @(\w+) \{\n.*?^\}\n)", re.MULTILINE | re.DOTALL)
PHASE = re.compile(r"^  kvcache\.phase .*?^  \}\n", re.MULTILINE | re.DOTALL)
SEED = 4
OTHERS = """
kvcache.method @nothing {
}
!coded = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, pos = i32, x = f32}>
kvcache.method @coder {
  kvcache.state @kv : !coded
}
"""


def labels_of(tool, text, parts):
    pipeline = f"builtin.module(kvcache-compose{{parts={','.join(parts)}}},kvcache.method(kvcache-labels))"
    done = subprocess.run([tool, "-", f"--pass-pipeline={pipeline}", "--mlir-disable-threading"], input=text, capture_output=True, text=True)
    found = re.search(rf"remark: labels of '{re.escape('+'.join(parts))}.composed': (.*)", done.stderr)
    if not found or done.returncode != 0:
        raise SystemExit(f"{'+'.join(parts)}: no labels: {done.stderr}")
    return found.group(1).split()


def renamed(method):
    """Other names for the method, what it declares and its values; @kv stays, for the parts of a composition share it."""
    names = {}
    for name in re.findall(r"kvcache\.(?:method|param|artefact|state) @(\w+)", method):
        if name != "kv":
            names[name] = f"streaming_h2o_{len(names)}"
    for old, new in names.items():
        method = re.sub(rf"@{old}\b", f"@{new}", method)
    return re.sub(r"%(\w+)", r"%snapkv_\1", method)


def shuffled(method, rng):
    """Phases in another order, and in each phase any order of ops that puts a value before its uses."""
    def shuffle_ops(match):
        lines = match.group(0).splitlines(keepends=True)
        head, ops, end = lines[0], lines[1:-2], lines[-2:]
        defined = set(re.findall(r"%\w+", head))
        body = []
        while ops:
            ready = [op for op in ops if set(re.findall(r"%\w+", op.split("=", 1)[1])) <= defined]
            # An op that changes the cache in place comes after every other that reads it.
            readers = [op for op in ready if "kvcache.set_column" not in op and "kvcache.gather" not in op] or ready
            op = rng.choice(readers)
            ops.remove(op)
            defined |= set(re.findall(r"%\w+", op.split("=", 1)[0]))
            body.append(op)
        return head + "".join(body) + "".join(end)

    method = PHASE.sub(shuffle_ops, method)
    phases = PHASE.findall(method)
    start, end = method.index(phases[0]), method.index(phases[-1]) + len(phases[-1])
    return method[:start] + "".join(reversed(phases)) + method[end:]


def main(tool, path):
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    aliases = "".join(line + "\n" for line in text.splitlines() if line.startswith("!"))
    has, lacks, checks = set(), set(), 0
    rng = random.Random(SEED)
    for match in METHOD.finditer(text):
        expected, method, name = match.group(1).split(), match.group(2), match.group(3)
        variants = {"as it stands": (method, [name]), "other names": (renamed(method), ["streaming_h2o_0"]),
                    "with nothing": (method, ["nothing", name]), "with a coder": (method, [name, "coder"])}
        if PHASE.search(method):
            for turn in range(3):
                variants[f"other order {turn} (seed {SEED})"] = shuffled(method, rng), [name]
        for what, (variant, parts) in variants.items():
            found = labels_of(tool, aliases + variant + OTHERS, parts)
            if found != expected:
                raise SystemExit(f"@{name}, {what}: expected {' '.join(expected)}, got {' '.join(found)}\n{variant}")
            checks += 1
        has |= set(expected)
        lacks |= set(LABELS) - set(expected)
    if has != set(LABELS) or lacks != set(LABELS):
        raise SystemExit(f"every label needs a method with and one without it; with: {sorted(has)}, without: {sorted(lacks)}")
    print(f"{checks} checks of {len(LABELS)} labels")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
