#!/bin/sh
# `make unit` with each supported Python but the one that `make test` runs on. One that the machine does not have is named and left out.
# Each has a virtual environment of its own, which stays: .venv/pythons/3.X
set -eu
cd "$(dirname "$0")/.."
ours=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
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
    make unit PYTHON="$found" VENV=".venv/pythons/$version"
done
