#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs a command that has to be refused: `refuses.py [--file-bytes N] TEXT COMMAND...`. Fails unless it exits with 2,
prints one line on stderr that begins with `error: ` and holds TEXT, and leaves the folder as it was. --file-bytes
lets no file grow beyond N bytes, as a full disk would."""
import os
import resource
import signal
import subprocess
import sys


def limit(file_bytes):
    """No file of this process may grow beyond file_bytes; writing past that is an error, not a signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def main():
    words = sys.argv[1:]
    file_bytes = None
    if words[0] == "--file-bytes":
        file_bytes, words = int(words[1]), words[2:]
    text, command = words[0], words[1:]
    before = sorted(os.listdir("."))
    result = subprocess.run(command, capture_output=True, text=True, restore_signals=False, check=False,
                            preexec_fn=(lambda: limit(file_bytes)) if file_bytes else None)
    lines = result.stderr.splitlines()
    faults = []
    if result.returncode != 2:
        faults.append(f"exit code {result.returncode}, expected 2")
    if len(lines) != 1 or not lines[0].startswith("error: "):
        faults.append(f"expected exactly one error line, got {lines}")
    if text not in result.stderr:
        faults.append(f"expected {text!r} in {result.stderr!r}")
    if sorted(os.listdir(".")) != before:
        faults.append(f"left {sorted(set(os.listdir('.')) - set(before))} behind")
    for fault in faults:
        print(f"FAIL {' '.join(command)}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
