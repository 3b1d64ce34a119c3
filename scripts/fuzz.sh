#!/usr/bin/env bash
# Runs every fuzz target of the repository for a while, one after the other.
#
#   ./scripts/fuzz.sh [duration]   per target, 10s when not given
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_go
fuzztime=${1:-10s}
found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  step "$target in $(dirname "$file")" go test -run='^$' -fuzz="^$target\$" -fuzztime="$fuzztime" "./$(dirname "$file")" </dev/null
done < <(go_files | xargs -0 -r grep -HoP '^func \KFuzz\w+(?=\()' | grep '_test\.go:' | sed 's|^\./||' | sort)

[ "$found" -gt 0 ] || echo "there is no fuzz target"
finish
