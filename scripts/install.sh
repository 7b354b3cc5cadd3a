#!/bin/sh
# install.sh PYTHON VENV: make the development environment, with the versions of constraints.txt.
set -eu
python=$1
venv=$2

fail() {
    echo "$1" >&2
    exit 1
}

install() {
    "$venv/bin/python" -m pip --disable-pip-version-check -qq install -c constraints.txt "$@" ||
        fail "The packages could not be installed; is there a network?"
}

command -v "$python" >/dev/null || fail "$python is not installed; run: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "querytoll needs Python 3.11 or newer, $python is $("$python" -V 2>&1); run: make PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null ||
    fail "Python's venv module is missing; run: apt-get install python3-venv"

echo "Installing into $venv (half a minute, more on a slow line)"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$venv"
install hatchling
install --no-build-isolation -e '.[dev]'
