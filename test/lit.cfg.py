# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Configuration of every lit test: format, substitutions, features. Each test runs in a folder of its own, emptied
# before it starts, so that relative output paths never meet.
import os
import sys

sys.path.insert(0, os.path.join(config.kvasir_source_root, "test"))
from own_folder import ShellTestInOwnFolder

config.name = "kvasir"
config.test_format = ShellTestInOwnFolder(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.test_source_root = os.path.join(config.kvasir_source_root, "test")
config.test_exec_root = os.path.join(config.kvasir_binary_root, "test")

# Slow tests are named <name>.slow.<suffix> and run with --param slow=1.
config.excludes = ["Inputs"]
if "slow" not in lit_config.params:
    for folder, _, names in os.walk(config.test_source_root):
        config.excludes += [n for n in names if n.endswith((".slow.test", ".slow.mlir"))]

tools = os.path.join(config.kvasir_binary_root, "bin")
config.environment["PATH"] = os.pathsep.join([tools, config.environment["PATH"], config.llvm_tools_dir])
# Python writes no caches into the source tree.
config.environment["PYTHONDONTWRITEBYTECODE"] = "1"

tool_names = ("kvasir-opt", "kvasir-rt", "kvasir-translate", "kvasir-lsp-server", "kvasir-reduce", "kvasir")
for tool in tool_names:
    config.substitutions.append(("%" + tool + r"(?![\w-])", os.path.join(tools, tool)))
config.substitutions += [
    (r"%python\b", config.kvasir_python),
    (r"%source_root\b", config.kvasir_source_root),
    (r"%build_root\b", config.kvasir_binary_root),
    (r"%methods\b", os.path.join(config.kvasir_source_root, "frontends", "methods")),
    (r"%model\b", os.path.join(config.kvasir_source_root, "models", "kvref-s")),
]

if config.kvasir_sanitize:
    config.available_features.add("sanitizer")
for tool in tool_names:
    if os.path.exists(os.path.join(tools, tool)):
        config.available_features.add(tool)
