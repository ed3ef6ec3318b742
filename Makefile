# `make demo` and `make test` set up everything they need, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/pytest -n auto
ELSEWHERE := not gpu and not network

# The tests start Python a hundred times, which is not to compile everything each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo quick test tests checks slow coverage lint check lowest newest format docs bench clean
help:
	@echo "make demo           segment photographs, look at demo/out"
	@echo "make quick          ruff, mypy and the quick tests: while you write"
	@echo "make test           the checkers and the tests: what CI runs"
	@echo "make slow           the tests that take minutes, and gigabytes"
	@echo "make coverage       make test, and how much of each folder it went through"
	@echo "make check          the checkers alone: ruff, mypy, and pylint for what is said twice"
	@echo "make lowest         the quick tests with the lowest versions that pyproject.toml allows"
	@echo "make newest         the same with the newest versions"
	@echo "make format         let ruff format the code"
	@echo "make bench          time predict against the plain way"
	@echo "make docs           write docs/cli.md, and the documentation as pages: build/site"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Without torch: what a user of finished models installs.
$(VENV)/demo: pyproject.toml constraints.txt src/atrous/_upsample.c | $(BIN)/python
	@echo "installing atrous into $(VENV) ..."
	$(PIP) -e '.[demo]'
	@touch $@

# torch first and by version: a bare `torch` may pull gigabytes of CUDA. pip compiles on one core,
# which is half of the time, and the packages' own tests too; a few files compile on no Python.
$(VENV)/dev: pyproject.toml constraints.txt src/atrous/_upsample.c | $(BIN)/python
	@echo "installing atrous, PyTorch and the checkers into $(VENV) ..."
	$(PIP) --no-compile "$$(grep '^torch==' constraints.txt)"
	$(PIP) --no-compile -e '.[demo,dev,docs,train,openvino,report,serve,large,heic,coco,video,cluster,ray-serve]'
	$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
	@touch $@

demo: $(VENV)/demo
	@$(BIN)/python examples/photographs.py demo/photographs
	@$(BIN)/atrous predict demo/photographs -o demo/out --force
	@echo "Look at the pictures in $(CURDIR)/demo/out/overlays"

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/pylint src/atrous

quick: lint
	$(PYTEST) -m 'not heavy and not slow and $(ELSEWHERE)'

# For the examples that run in Node and in a browser; where npm is absent their tests are skipped.
NODE := examples/deploy/node_modules
$(NODE): examples/deploy/package-lock.json
	@if command -v npm >/dev/null; then cd examples/deploy && npm ci --ignore-scripts --silent && touch node_modules; fi

# The checkers run beside the tests, which leave a core idle whenever they wait for a process; what
# they found is shown at the end, where it is not lost among the dots.
CHECKS := build/checks.txt
test: $(VENV)/dev $(NODE)
	@$(MAKE) --no-print-directory -j 2 tests checks; ended=$$?; cat $(CHECKS); exit $$ended

tests:
	$(PYTEST) --durations=20

checks:
	@mkdir -p $(dir $(CHECKS)) && $(MAKE) --no-print-directory check >$(CHECKS) 2>&1

slow: $(VENV)/dev
	$(BIN)/pytest --durations=20 -m 'slow and $(ELSEWHERE)'

coverage: $(VENV)/dev
	$(PYTEST) --cov --cov-report=
	$(BIN)/python .ci/coverage_of_folders.py

lowest newest:
	.ci/versions $@

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev
	$(BIN)/typer atrous.cli utils docs --name atrous --output docs/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Look at $(CURDIR)/build/site/index.html"

bench: $(VENV)/dev
	$(BIN)/python benchmarks/predict.py

clean:
	rm -rf $(NODE) $(VENV) $(VENV)-lowest $(VENV)-newest build demo src/*.egg-info src/atrous/*.so
