#!/bin/sh
# `make unit` with each supported Python but the one that `make test` runs on, side by side. One that the machine does not have is named and left out.
# Each has a virtual environment of its own, which stays: .venv/pythons/3.X
set -eu
cd "$(dirname "$0")/.."
ours=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venvs=.venv/pythons
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
begun=""
for version in 3.11 3.12 3.13 3.14; do
    [ "$version" != "$ours" ] || continue
    found=""
    for program in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        # a pyenv shim is there for versions that are not
        if [ -x "$program" ] && "$program" -c 'import ensurepip' >/dev/null 2>&1; then found=$program; fi
    done
    if [ -z "$found" ]; then
        echo "Python $version: not on this machine, left out"
        continue
    fi
    echo "Python $version: make unit with $found"
    # one after the other: building writes into the source's own folder
    make "$venvs/$version/.test" PYTHON="$found" VENV="$venvs/$version"
    # the exit code goes into a file, since set -e would end the shell at the first one that fails
    { make unit PYTHON="$found" VENV="$venvs/$version" >"$logs/$version" 2>&1 && echo 0 || echo 1; } >"$logs/$version.code" &
    begun="$begun $version"
done
wait
failed=0
for version in $begun; do
    echo "---- Python $version"
    tail -n 2000 "$logs/$version"
    [ "$(cat "$logs/$version.code")" = 0 ] || failed=1
done
exit $failed
