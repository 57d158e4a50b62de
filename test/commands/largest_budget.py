# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""largest_budget.py KVASIR DUMP REPORT: the tokens that --budget 300KiB came to fit in it, and one more would not."""
import json
import subprocess
import sys

LIMIT = 300 * 1024


def prompt_bytes(tokens):
    """Bytes of the dump's prompt, its steps left out, with a budget of so many tokens."""
    subprocess.run([sys.argv[1], "apply", "knorm", "--kv", "prompt.safetensors", "--budget", str(tokens), "-o", "c.safetensors",
                    "--json", "c.json"], check=True, stdout=subprocess.DEVNULL)
    return json.load(open("c.json"))["rows"][0]["bytes_measured"]


def main():
    sys.path.insert(0, sys.path[0] + "/../oracle")
    from safetensors_io import read_safetensors, write_safetensors
    tensors = read_safetensors(sys.argv[2])
    write_safetensors("prompt.safetensors", {name: value for name, value in tensors.items() if ".step." not in name})
    budget = json.load(open(sys.argv[3]))["rows"][0]["budget"]
    assert 1 < budget < 150, budget
    assert prompt_bytes(budget) <= LIMIT < prompt_bytes(budget + 1), budget


if __name__ == "__main__":
    main()
