# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""interrupt.py JOURNAL COMMAND...: starts the command, interrupts it once the journal has a line, and checks that it
stops with exit code 2, one error and a journal of whole lines."""
import json
import os
import signal
import subprocess
import sys
import time


def main(journal, *command):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and not (os.path.exists(journal) and os.path.getsize(journal) > 0):
        time.sleep(0.01)
    assert process.poll() is None, f"ended before it was interrupted: {process.stderr.read()}"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, (process.returncode, errors)
    assert "error: interrupted" in errors and journal in errors, errors
    with open(journal) as file:
        lines = [json.loads(line) for line in file]
    assert lines and all("key" in line for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
