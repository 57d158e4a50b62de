# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Which folder may include what. A new arrow is an edit of TABLE, hence reviewed."""
import re
import sys
import tempfile

import tree

# Layer -> include prefixes it may use. System and third-party headers are free, MLIR's and LLVM's are not.
SHARED_ABI = ["runtime/abi/StorageLayout.h", "runtime/abi/StorageTerm.h", "runtime/abi/ElementType.h"]
MLIR = ["mlir/", "mlir-c/", "llvm/", "llvm-c/", "lld/"]
EXECUTABLE_IR = "targets/ExecutableTranslation.h"  # what every target and kvasir-translate write executables with
TABLE = {
    "runtime/": ["runtime/"],
    "dialect/": SHARED_ABI + ["dialect/"] + MLIR,
    "passes/": SHARED_ABI + ["dialect/", "passes/"] + MLIR,
    "frontends/": ["dialect/", "frontends/"] + MLIR,
    "targets/TargetRegistry.cpp": ["runtime/", "dialect/", "passes/", "targets/"] + MLIR,
    "targets/": ["runtime/", "dialect/", "passes/", "targets/Target.h", "targets/TargetRegistry.h", EXECUTABLE_IR] + MLIR,
    "tools/": ["runtime/", "dialect/", "passes/", "targets/Target.h", "targets/TargetRegistry.h", EXECUTABLE_IR, "frontends/", "tools/"]
    + MLIR,
    "test/lib/": ["dialect/", "passes/"] + MLIR,
}
# Passes stay above target code.
FORBIDDEN = {"passes/": ["mlir/Dialect/LLVMIR/", "mlir/Dialect/SPIRV/", "mlir/Dialect/NVGPU/", "mlir/Target/"]}
CONTROLLED = tuple({root for allowed in TABLE.values() for root in (p.split("/")[0] + "/" for p in allowed)})
INCLUDE = re.compile(r'^\s*(?:#\s*)?include\s+["<]([^">]+)[">]')


def allowed(path, header):
    layer = next((layer for layer in TABLE if path.startswith(layer)), None)
    if layer is None:
        return True
    if not header.startswith(CONTROLLED):
        return True
    if any(header.startswith(prefix) for prefix in FORBIDDEN.get(layer, [])):
        return False
    if layer == "targets/" and path.count("/") > 1:  # a target may include its own folder, no other target
        own = "/".join(path.split("/")[:2]) + "/"
        if header.startswith(own):
            return True
    return any(header.startswith(prefix) for prefix in TABLE[layer])


def violations(root):
    for path in tree.files(root, (".cpp", ".h", ".c", ".td")):
        for number, line in enumerate(tree.lines(root, path), 1):
            match = INCLUDE.match(line)
            if match and not allowed(path, match.group(1)):
                yield f"{path}:{number}: this layer may not include {match.group(1)}"


def self_test():
    samples = {
        "runtime/a.cpp": '#include "mlir/IR/Builders.h"\n#include "runtime/Status.h"\n#include <vector>\n',
        "runtime/b.h": '#include "llvm/ADT/SmallVector.h"\n',
        "dialect/a.td": 'include "mlir/IR/OpBase.td"\ninclude "passes/x.td"\n',
        "dialect/a.cpp": '#include "runtime/abi/StorageLayout.h"\n#include "runtime/Status.h"\n',
        "passes/a.cpp": '#include "mlir/Dialect/LLVMIR/LLVMDialect.h"\n#include "mlir/Dialect/SCF/IR/SCF.h"\n',
        "targets/cpu/a.cpp": '#include "targets/cpu/b.h"\n#include "targets/gpu/b.h"\n#include "targets/Target.h"\n',
        "tools/a.cpp": '#include "targets/cpu/b.h"\n#include "targets/TargetRegistry.h"\n',
    }
    with tempfile.TemporaryDirectory() as root:
        for path, text in samples.items():
            tree.write(root, path, text)
        found = [":".join(v.split(":")[:2]) for v in violations(root)]
    expected = ["dialect/a.cpp:2", "dialect/a.td:2", "passes/a.cpp:1", "runtime/a.cpp:1", "runtime/b.h:1"]
    assert found == expected + ["targets/cpu/a.cpp:2", "tools/a.cpp:1"], found


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
