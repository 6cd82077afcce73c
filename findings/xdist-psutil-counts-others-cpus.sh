#!/usr/bin/env bash
# One would guess: `pytest -n auto` starts as many workers as it has CPUs, and to install one more library, which no test
# imports, changes nothing of that.
# What happens: without psutil, pytest-xdist counts the CPUs of its affinity mask: one worker on one CPU. Where psutil can
# be imported it counts the machine's cores: bound to one CPU it starts a worker for each core, all on that CPU.
# Version: pytest-xdist 3.8.0, pytest 9.0.0, psutil 7.1.3.
# Seen: when what programs take as their number of CPUs was measured, in pinned containers and under taskset.
# What follows: in a pinned container, or a job of a batch system, give `-n NUMBER` (or PYTEST_XDIST_AUTO_NUM_WORKERS),
# lest some other package's dependency choose; `-n logical` is no way out, since it asks psutil, too.
# Needs a machine with two cores at least, python3 with pip, and taskset. Leaves nothing behind.
set -euo pipefail

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
unset PYTEST_ADDOPTS PYTEST_PLUGINS PYTEST_XDIST_AUTO_NUM_WORKERS
python3 -m pip install -q --target xdist pytest==9.0.0 pytest-xdist==3.8.0
python3 -m pip install -q --target more psutil==7.1.3
cores=$(lscpu --parse=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
if ((cores < 2)); then
    echo 'this machine has one core: there is no difference to see' >&2
    exit 1
fi
cpu=$(taskset --cpu-list --pid $$ | sed 's/.*: //; s/[-,].*//')
echo 'def test(): pass' >test_it.py

# workers PATH [NUMBER] - how many it starts, bound to one CPU; -S hides what the machine itself has of Python's libraries.
workers() {
    PYTHONPATH=$1 taskset --cpu-list "$cpu" python3 -S -m pytest -p no:cacheprovider -n "${2-auto}" test_it.py |
        sed -nE 's/^([0-9]+) workers? \[.*/\1/p'
}
without=$(workers "$tmp/xdist")
with=$(workers "$tmp/xdist:$tmp/more")
logical=$(workers "$tmp/xdist:$tmp/more" logical)
echo "bound to one CPU, on a machine of $cores cores: $without worker without psutil, $with with it ($logical by -n logical)"
((without == 1 && with == cores && logical > 1))
