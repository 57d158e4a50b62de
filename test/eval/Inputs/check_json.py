# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks of the JSON that `eval` and `demo` write.

check_json.py schema FILE SCHEMA      the file follows the schema
check_json.py lossless FILE           dense, and every method at a share of 1.0, equals dense exactly
check_json.py same FILE FILE          rows of the same numbers, times and resident memory included
check_json.py refused CODE TEXT -- COMMAND...   the command ends with that exit code and one error line with that text
"""
import json
import subprocess
import sys

import jsonschema


def read(path):
    with open(path) as file:
        return json.load(file)


def check_schema(path, schema):
    schema = read(schema)
    jsonschema.Draft7Validator.check_schema(schema)
    report = read(path)
    jsonschema.validate(report, schema, cls=jsonschema.Draft7Validator)
    assert report["rows"], "no rows"


def check_lossless(path):
    checked = 0
    for row in read(path)["rows"]:
        if row["method"] == "dense" or row["budget"] == 1.0:
            assert row["kld_max_nats"] == 0 and row["top1"] == 1, row
            checked += 1
    assert checked >= 2, checked


def check_same(first, second):
    a, b = read(first)["rows"], read(second)["rows"]
    assert a == b, (a, b)


def check_refused(code, text, _, *command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == int(code), (done.returncode, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and text in errors[0], done.stderr
    assert done.stdout == "", done.stdout


if __name__ == "__main__":
    {"schema": check_schema, "lossless": check_lossless, "same": check_same, "refused": check_refused}[sys.argv[1]](*sys.argv[2:])
