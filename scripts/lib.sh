# Shared by the scripts of this folder; source it, do not run it.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Every module stands alone, and no build asks git what it is building.
export GOWORK=off
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# need_go finds Go, also where its own installation puts it.
need_go() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || die "Go is not on the PATH: install the version that go.mod names"
}

# apt_install installs Debian packages, as root or through sudo.
apt_install() {
  command -v apt-get >/dev/null || die "install by hand, no apt-get on this machine: $*"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "run as root once, or install by hand: $*"
    sudo=(sudo)
  fi
  echo "installing $*"
  local log
  log=$(mktemp)
  if ! { "${sudo[@]}" apt-get update -q &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: $*"
  fi
  rm -f "$log"
}

# need_cc provides the C compiler that the race detector links with.
need_cc() {
  command -v "$(go env CC | cut -d' ' -f1)" >/dev/null || apt_install gcc libc6-dev
  export CGO_ENABLED=1
}

# postgres_bindir prints the folder of the newest PostgreSQL server found.
postgres_bindir() {
  local dir
  while read -r dir; do
    if [ -n "$dir" ] && [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
      echo "$dir"
      return 0
    fi
  done < <(
    printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV
    pg_config --bindir 2>/dev/null
    dirname "$(command -v initdb)" 2>/dev/null
  )
  return 1
}

# need_postgres provides the server's programs. It starts no server: the tests
# start one of their own and throw it away, and Debian's default cluster is
# neither created nor started.
need_postgres() {
  [ -d storage/postgres ] || return 0
  if [ -n "${CRUSTER_TEST_POSTGRES_URL:-}" ]; then
    echo "PostgreSQL: the server of CRUSTER_TEST_POSTGRES_URL"
    return 0
  fi
  if ! postgres_bindir >/dev/null; then
    local conf=/etc/postgresql-common/createcluster.d/cruster-tests.conf sudo=""
    if [ "$(id -u)" -ne 0 ]; then sudo=sudo; fi
    $sudo mkdir -p "$(dirname "$conf")"
    echo 'create_main_cluster = false' | $sudo tee "$conf" >/dev/null
    apt_install postgresql
    $sudo rm -f "$conf"
    postgres_bindir >/dev/null || die "the package postgresql brought no server: looked for initdb and postgres in /usr/lib/postgresql/*/bin"
  fi
  PATH=$PATH:$(postgres_bindir)
  export PATH
  echo "PostgreSQL: $(postgres --version)"
}

# go_files lists the Go files that are held to the format, NUL-terminated.
go_files() {
  find . \( -name '.?*' -o -name testdata -o -name vendor -o -name node_modules \) -prune -o -name '*.go' -type f -print0
}

# nested_modules prints the folders of modules below the root that hold Go
# files. The pinned tools hold none: nothing of theirs is ours to test.
nested_modules() {
  local mod dir
  while IFS= read -r mod; do
    dir=${mod%/go.mod}
    if [ -n "$(find "$dir" -name '*.go' -type f -print -quit)" ]; then echo "${dir#./}"; fi
  done < <(find . \( -name '.?*' -o -name testdata -o -name node_modules \) -prune -o -mindepth 2 -name go.mod -type f -print | sort)
}

# step runs a command under a heading and remembers whether it failed, so that
# one run shows everything that is wrong.
failed=()
step() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    printf -- '-- %s: ok (%d s)\n' "$name" $((SECONDS - began))
  else
    printf -- '-- %s: FAILED (%d s)\n' "$name" $((SECONDS - began))
    failed+=("$name")
  fi
}

# finish ends a script that ran steps.
finish() {
  if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFAILED after %d s: %s\n' "$SECONDS" "$(printf '%s; ' "${failed[@]}")"
    exit 1
  fi
  printf '\nall good after %d s\n' "$SECONDS"
}

check_format() {
  local bad
  bad=$(go_files | xargs -0 -r gofmt -l) || return 1
  [ -z "$bad" ] || {
    printf 'not formatted; run gofmt -w on:\n%s\n' "$bad"
    return 1
  }
}

# staticcheck_bin builds the pinned staticcheck when it is not there or older
# than its pin, and prints where it is.
staticcheck_bin() {
  local bin=$PWD/.bin/staticcheck
  if [ ! -x "$bin" ] || [ internal/devtools/go.sum -nt "$bin" ]; then
    go build -C internal/devtools -o "$bin" honnef.co/go/tools/cmd/staticcheck || return 1
    touch "$bin"
  fi
  echo "$bin"
}

# check_staticcheck runs staticcheck in a module. Fields of types in tests are
# read by reflection alone, so that one of them is unused is no fault.
check_staticcheck() {
  local bin out
  bin=$(staticcheck_bin) || {
    echo "staticcheck does not build: see internal/devtools/go.mod"
    return 1
  }
  out=$(cd "$1" && "$bin" ./... | grep -vE '_test\.go:[0-9:]+ field \w+ is unused \(U1000\)$')
  [ -z "$out" ] || {
    printf '%s\n' "$out"
    return 1
  }
}

# check_tidy compares go.mod and go.sum of a module with what its code needs.
check_tidy() {
  go mod tidy -C "$1" -diff || {
    echo "$1/go.mod or go.sum is not what the code needs: make tidy"
    return 1
  }
}
