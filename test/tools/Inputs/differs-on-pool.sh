#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# A driver with a fault: `verify METHOD ..` finds that targets differ (1) when a valid method uses the op pool.
kvasir verify "$2" --targets reference >/dev/null 2>&1 || exit 2
grep -q "kvcache.pool" "$2" && exit 1
exit 0
