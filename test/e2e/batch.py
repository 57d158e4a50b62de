# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""batch.py --kvasir K RUN-WORDS...: one `kvasir run` of a.txt, b.txt and c.txt gives the tokens, rows kept and bytes of
three single runs. The tokens of the three differ, or the comparison would prove little."""
import json
import subprocess
import sys

PROMPTS = ("a.txt", "b.txt", "c.txt")
SAME = ("prompt_tokens", "new_tokens", "kept_tokens", "bytes_claimed", "bits_per_value_k", "bits_per_value_v")


def run(kvasir, words, prompts):
    """The rows of the JSON result of one call."""
    command = [kvasir, "run", *words, "--max-new-tokens", "12", "--json", "out.json"]
    for prompt in prompts:
        command += ["--prompt", prompt]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode}: {done.stderr[-600:]}")
    with open("out.json", encoding="utf-8") as stream:
        return json.load(stream)["rows"]


def main():
    _, kvasir, *words = sys.argv[1:]
    together = run(kvasir, words, PROMPTS)
    alone = [run(kvasir, words, [prompt])[0] for prompt in PROMPTS]
    problems = [] if len(together) == len(PROMPTS) else [f"{len(together)} rows, expected {len(PROMPTS)}"]
    for prompt, one, many in zip(PROMPTS, alone, together):
        problems += [f"{prompt}: {key} is {many[key]} in the batch, {one[key]} alone" for key in SAME if one[key] != many[key]]
    if len({str(row["new_tokens"]) for row in alone}) < 2:
        problems.append("every prompt gives the same tokens")
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
