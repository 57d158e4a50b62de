# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What holds for every shipped method, whatever it computes.

  every_method.py symbols --kvasir K --nm llvm-nm    undefined symbols of the compiled kernels are in allowed-symbols.txt
  every_method.py threads --kvasir K                 one thread and two write the same bytes
  every_method.py verify --kvasir K --prompt FILE    `run --verify --require-fused` succeeds
  every_method.py kept --kvasir K --prompt FILE      with a budget above the prompt, the text generated is that of dense

Prints one line per method and exits with 1 when something does not hold.
"""
import argparse
import filecmp
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "oracle"))
from cases import METHODS, UNBUDGETED, WINDOWED, Case, make_inputs
from safetensors_io import write_safetensors

CODED = UNBUDGETED | {"snapkv+kivi"}  # those that keep every row still round it


def call(*words):
    """stdout and stderr of a command that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode} of {' '.join(words)}: {done.stderr[-600:]}")
    return done.stdout, done.stderr


def symbols(options, method):
    with open(os.path.join(HERE, "allowed-symbols.txt"), encoding="utf-8") as stream:
        allowed = {line.strip() for line in stream if line.strip() and not line.startswith("#")}
    path = f"{method}.so"
    begun = time.monotonic()
    call(options.kvasir, "compile", method, "--emit=so", "--isa", "v3", "-o", path)
    seconds = time.monotonic() - begun
    lines = call(options.nm, "-D", "--undefined-only", path)[0].splitlines()
    needed = {line.split()[-1].split("@")[0] for line in lines if line.strip()}
    return sorted(needed - allowed), f"compiled in {seconds:.2f} s, needs {' '.join(sorted(needed)) or 'nothing'}"


def threads(options, method):
    source = f"{method}.safetensors"
    write_safetensors(source, make_inputs(Case("threads", tokens=333, steps=6, group=4, dim=64, dtype="F16", seed=3)))
    budget = [] if method in UNBUDGETED else ["--budget", "100"]
    outputs = [f"{method}-{count}.safetensors" for count in (1, 2)]
    for count, output in zip((1, 2), outputs):
        call(options.kvasir, "apply", method, "--kv", source, "-o", output, "--attend", "--threads", str(count), *budget)
    return [] if filecmp.cmp(*outputs, shallow=False) else [f"{outputs[0]} and {outputs[1]} differ"], "same bytes"


def kept(options, method):
    def text(*words):
        return call(options.kvasir, "run", *words, "--prompt", options.prompt, "--max-new-tokens", "24")[0]
    if not options.expected:
        options.expected = text("dense")
    said = text(method, "--budget", "100000", *(["--set", options.set] if options.set else []))
    return [] if said == options.expected else [f"{said!r}, dense {options.expected!r}"], "the text of dense"


def verify(options, method):
    budget = [] if method in UNBUDGETED else ["--budget", "40"]
    window = ["--set", "window=16"] if method in WINDOWED else []
    call(options.kvasir, "run", method, "--prompt", options.prompt, "--max-new-tokens", "8", "--require-fused", "--verify",
         *budget, *window)
    return [], "fused and verified"


CHECKS = {"symbols": symbols, "threads": threads, "kept": kept, "verify": verify}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--kvasir", required=True)
    parser.add_argument("--nm", default="llvm-nm")
    parser.add_argument("--prompt")
    parser.add_argument("--methods", help="these, separated by commas, instead of all (names or files)")
    parser.add_argument("--set", help="NAME=VALUE for the method")
    options = parser.parse_args()
    options.expected = None
    methods = options.methods.split(",") if options.methods else METHODS
    if options.check == "kept":
        methods = [method for method in methods if method not in CODED]
    failed = 0
    for method in methods:
        try:
            problems, note = CHECKS[options.check](options, method)
        except RuntimeError as error:
            problems, note = [str(error)], ""
        failed += bool(problems)
        print(f"{'FAIL' if problems else 'ok'} {method}: {'; '.join(problems) or note}", flush=True)
    print(f"{'FAIL' if failed else 'PASS'} {options.check} of {len(methods)} methods")
    sys.exit(1 if failed or not methods else 0)


if __name__ == "__main__":
    main()
