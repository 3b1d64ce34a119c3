#!/usr/bin/env bash
# Runs every test of the repository, with the race detector, and checks that
# the tree is formatted, tidy, and free of what vet and staticcheck find. It sets up what it needs: on a fresh
# Debian machine Go alone must be there.
#
#   ./scripts/test.sh              everything
#   ./scripts/test.sh -run=Fence   the same, these flags given to go test
#
# CRUSTER_TEST_POSTGRES_URL names a PostgreSQL server to use instead of one
# that the tests start themselves.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_go
need_cc
need_postgres
go version

# go vet runs once, in full; go test need not repeat a part of it.
test_flags=(-vet=off -shuffle=on -timeout=10m "$@")

step "format" check_format
step "build" go build ./...
step "vet" go vet ./...
step "staticcheck" check_staticcheck .
step "go.mod is tidy" check_tidy .
step "test with the race detector" go test -race "${test_flags[@]}" ./...

# A nested module is one that the library must not depend on, such as the
# benchmarks against peers.
for dir in $(nested_modules); do
  step "$dir: build" go build -C "$dir" ./...
  step "$dir: vet" go vet -C "$dir" ./...
  step "$dir: staticcheck" check_staticcheck "$dir"
  step "$dir: go.mod is tidy" check_tidy "$dir"
  step "$dir: test" go test -C "$dir" "${test_flags[@]}" ./...
done

finish
