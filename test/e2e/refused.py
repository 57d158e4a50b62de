# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""refused.py TEXT COMMAND...: the command must exit with code 2, say one error line that contains TEXT, print nothing
on stdout and leave no file of the name after its -o."""
import os
import subprocess
import sys


def main():
    text, *command = sys.argv[1:]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    print(f"{done.returncode}: {done.stderr.strip()}")
    problems = []
    if done.returncode != 2:
        problems.append(f"exit code {done.returncode}, expected 2")
    if len(errors) != 1 or len(done.stderr.splitlines()) != 1:
        problems.append("expected one line with the error")
    if text not in done.stderr:
        problems.append(f"expected a message with '{text}'")
    if done.stdout:
        problems.append("expected nothing on stdout")
    if "-o" in command and os.path.exists(command[command.index("-o") + 1]):
        problems.append("a refused command left an output file")
    sys.exit("; ".join(problems) or 0)


if __name__ == "__main__":
    main()
