# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The lit format of this project: a shell test that runs in an empty folder of its own.

It is a module, not part of lit.cfg.py, because lit sends tests to its worker processes by pickle.
"""
import os
import shutil

import lit.formats


class ShellTestInOwnFolder(lit.formats.ShTest):
    """A shell test whose working directory is <build>/test/<folder>/<test>.dir."""

    def execute(self, test, lit_config):
        plain = test.getExecPath()
        folder = plain + ".dir"
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        test.getExecPath = lambda: os.path.join(folder, os.path.basename(plain))
        try:
            return super().execute(test, lit_config)
        finally:
            del test.getExecPath
