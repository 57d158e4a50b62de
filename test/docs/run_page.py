# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Does what a documentation page tells its reader to do: run_page.py PAGE.

In the order of the page, a fenced block `mlir file=NAME` or `python file=NAME` is written to NAME, and a block `sh` is run by
the shell, all blocks in the current folder; the first command that fails ends the test. `sh setup` is for the reader
alone. Any other block is an error, so that no example escapes.
"""
import os
import re
import subprocess
import sys

FENCE = re.compile(r"^```(.*)$")
FILE = re.compile(r"^(mlir|python) file=([\w.-]+)$")


def blocks(page):
    """(info string, text, line number) of each fenced block."""
    info, lines, start = None, [], 0
    with open(page, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            fence = FENCE.match(line.rstrip("\n"))
            if fence and info is None:
                info, lines, start = fence.group(1), [], number
            elif fence:
                yield info, "".join(lines), start
                info = None
            elif info is not None:
                lines.append(line)


def commands(text):
    """The commands of a block, one a line."""
    return [line for line in text.splitlines() if line.strip()]


def main(page):
    # Commands that say python3 mean the one that runs this.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = 0
    for info, text, line in blocks(page):
        file = FILE.match(info)
        if file:
            with open(file.group(2), "w", encoding="utf-8") as stream:
                stream.write(text)
        elif info == "sh":
            for command in commands(text):
                print(f"{page}:{line}: {command}", flush=True)
                result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
                print(result.stdout + result.stderr, flush=True)
                if result.returncode != 0:
                    sys.exit(f"{page}:{line}: exit code {result.returncode}: {command}\n{result.stderr}")
                done += 1
        elif info != "sh setup":
            sys.exit(f"{page}:{line}: block '{info}' is neither run nor written")
    if done == 0:
        sys.exit(f"{page}: no command was run")
    print(f"{done} commands done")


if __name__ == "__main__":
    main(sys.argv[1])
