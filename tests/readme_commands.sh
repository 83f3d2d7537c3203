#!/usr/bin/env bash
# Runs the command lines of README.md's "Two commands" section as they stand, in the clone given as the first argument.
set -euo pipefail
cd "$1"
sed -n '/^## Two commands/,/^## /p' README.md | sed -n '/^```sh$/,/^```$/{/^```/!p}' >"$1/.commands"
test "$(wc -l <"$1/.commands")" = 2
while IFS= read -r line; do
    echo "+ $line"
    begun=$SECONDS
    bash -c "$line" </dev/null
    echo "took $((SECONDS - begun)) s"
done <"$1/.commands"
test -s runs/digits/report/index.html
