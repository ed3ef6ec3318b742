# `make demo` and `make test` set up everything they need, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: help demo test check lowest newest format docs bench clean
help:
	@echo "make demo           segment photographs, look at demo/out"
	@echo "make test           ruff, mypy and the tests: what CI runs"
	@echo "make check          ruff and mypy alone"
	@echo "make lowest         the quick tests with the lowest versions that pyproject.toml allows"
	@echo "make newest         the same with the newest versions"
	@echo "make format         let ruff format the code"
	@echo "make bench          time predict against the plain way"
	@echo "make docs           write docs/cli.md from the command line's help"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Without torch: what a user of finished models installs.
$(VENV)/demo: pyproject.toml constraints.txt src/atrous/_upsample.c | $(BIN)/python
	@echo "installing atrous into $(VENV) ..."
	$(PIP) -e '.[demo]'
	@touch $@

# torch first and by version: a bare `torch` may pull gigabytes of CUDA.
$(VENV)/dev: pyproject.toml constraints.txt src/atrous/_upsample.c | $(BIN)/python
	@echo "installing atrous, PyTorch and the checkers into $(VENV) ..."
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e '.[demo,dev,train,openvino,report,serve,large,video,cluster]'
	@touch $@

demo: $(VENV)/demo
	@$(BIN)/python examples/photographs.py demo/photographs
	@$(BIN)/atrous predict demo/photographs -o demo/out --force
	@echo "Look at the pictures in $(CURDIR)/demo/out/overlays"

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest

lowest newest:
	.ci/versions $@

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev
	$(BIN)/typer atrous.cli utils docs --name atrous --output docs/cli.md

bench: $(VENV)/dev
	$(BIN)/python benchmarks/predict.py

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest build demo src/*.egg-info src/atrous/*.so
