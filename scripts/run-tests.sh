#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Runs lit over the tests of one build folder: run-tests.sh BUILD_DIR [lit arguments]. The last line counts
# what passed and what failed; the exit code is non-zero when a test failed or none ran. KVASIR_TEST_JOBS (2) tests
# run at a time: each may use every core itself.
set -u
build=$1
shift
lit=$(sed -n 's/^KVASIR_LIT:FILEPATH=//p' "$build/CMakeCache.txt")
log=$build/test/lit.log
jobs=${KVASIR_TEST_JOBS:-2}

{ "$lit" -j"$jobs" -v --time-tests "$@" "$build/test" "$build/test/unit" 2>&1; echo $? >"$log.code"; } |
  sed -u -e '/^Tests Times:$/d' -e '/^\[.*[])] :: \[/d' | tee "$log" # without lit's histogram
code=$(cat "$log.code")

# Sum of the counts that lit's closing summary gives for some labels, e.g. "  Passed     : 12 (100.00%)".
count() {
  sed -n '/^Total Discovered Tests:/,$p' "$log" | sed -nE "s/^  ($1) *: *([0-9]+).*/\2/p" | awk '{ n += $1 } END { print n + 0 }'
}
passed=$(count 'Passed|Passed With Retry|Expectedly Failed')
failed=$(count 'Failed|Unresolved|Timed Out|Unexpectedly Passed')
skipped=$(count 'Unsupported|Skipped|Excluded')
[ "$skipped" -eq 0 ] || echo "$skipped not run here (unsupported, skipped or excluded)"
if [ "$passed" -eq 0 ] && [ "$code" -eq 0 ]; then
  echo "no test passed: nothing was tested"
  code=1
fi
echo "$passed passed, $failed failed"
exit "$code"
