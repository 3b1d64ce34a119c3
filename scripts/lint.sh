#!/usr/bin/env bash
# Runs the linters: vet and staticcheck always, golangci-lint with the rules of
# .golangci.yml when it has been built (make lint-tools; it takes minutes).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_go

step "format" check_format
step "vet" go vet ./...
step "staticcheck" check_staticcheck .
for dir in $(nested_modules); do
  step "$dir: vet" go vet -C "$dir" ./...
  step "$dir: staticcheck" check_staticcheck "$dir"
done

golangci=$PWD/.bin/golangci-lint
[ -x "$golangci" ] || golangci=$(command -v golangci-lint || true)
if [ -n "$golangci" ]; then
  step "golangci-lint" "$golangci" run ./...
else
  printf '\ngolangci-lint is not built, its rules were not checked: make lint-tools\n'
fi

finish
