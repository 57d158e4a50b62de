#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Interestingness script of kvasir-reduce: exit code 1 when a target differs from the reference on METHOD, 0 when all
# agree or METHOD is no valid method. TARGETS (cpu): what is compared, KVASIR (kvasir): the driver.
#   kvasir-reduce method.mlir --test=test/tools/Inputs/two-targets-differ.sh -o small.mlir
"${KVASIR:-kvasir}" verify "$1" --targets "${TARGETS:-cpu}" >/dev/null 2>&1
[ $? -eq 1 ] && exit 1
exit 0
