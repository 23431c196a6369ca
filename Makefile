# make run    the playground: HornetMail with example.test, alice, bob, an admin, an auditor and a small primary
# make test   everything that must hold: style, types, import contract, tests against real peers, as many side by side as there are cores
# make check  style, types and import contract only
# make unit   tests that start no other programs but PostgreSQL; make pythons: the same on the other supported Pythons that are here
# make programs   tests that start other programs: services, real peers, browsers
# make landing    what CI runs: test and pythons
# make torture, make mutants, make bench   long runs

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PLAYGROUND := playground
PORTS ?= 20000

# Tests that start other programs.
PROGRAMS := tests/scenarios tests/browser tests/peers tests/crash
# DEV="-X dev": in Python's development mode, as make test does
DEV ?=

.PHONY: run test landing check unit programs pythons torture mutants bench packages clean

run: $(VENV)/.run
	$(BIN)/python -m hornetmail.playground --dir $(PLAYGROUND) --ports $(PORTS)

test: packages $(VENV)/.test
	$(BIN)/python tests/lanes.py check programs unit

landing: packages $(VENV)/.test
	LANDING=1 $(BIN)/python tests/lanes.py check programs unit pythons

check: $(VENV)/.test
	$(BIN)/ruff format --check hornetmail tests bench twisted etc
	$(BIN)/ruff check hornetmail tests bench twisted etc
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.test
	$(BIN)/python -bb $(DEV) -m pytest -q $(PROGRAMS:%=--ignore %) $(PYTEST)

programs: packages $(VENV)/.test
	$(BIN)/python -bb $(DEV) -m pytest -q $(PROGRAMS) $(PYTEST)

pythons: $(VENV)/.test
	$(BIN)/python tests/lanes.py pythons

# Each step of each story failed in each way, half an hour on two idle cores (TORTURE="--jobs 2"); run again, it goes on where it was stopped.
torture: packages $(VENV)/.test
	$(BIN)/python -bb -m tests.faults $(TORTURE)
	$(BIN)/python -bb -m pytest -q -m long tests/archive tests/faults tests/crash tests/scenarios

# 300 single-operator changes, each noticed by its room's own tests? About an hour on two cores.
mutants: $(VENV)/.test
	$(BIN)/python -m tests.mutants $(MUTANTS)

bench: packages $(VENV)/.test
	$(BIN)/python bench/accept.py
	$(BIN)/python bench/relay.py
	$(BIN)/python bench/outage.py
	$(BIN)/python bench/imap.py
	$(BIN)/python bench/pop.py
	$(BIN)/python bench/archive.py

# What the tests need from Debian: installed when we may, named when we may not.
packages:
	sh tests/packages.sh

$(VENV)/bin/python:
	sh tests/packages.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24' 'setuptools>=77,<83' wheel

# Twisted finds plugins along sys.path, which only this mode has us on; setuptools < 83 has it, and says each time that it may go one day.
EDITABLE = PYTHONWARNINGS='ignore:Compat editable installs' $(BIN)/python -m pip install --quiet --config-settings editable_mode=compat

$(VENV)/.run: $(VENV)/bin/python setup.cfg pyproject.toml
	$(EDITABLE) -e .
	touch $@

$(VENV)/.test: $(VENV)/bin/python setup.cfg pyproject.toml
	$(EDITABLE) -e '.[test]'
	touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) $(PLAYGROUND) build dist *.egg-info
