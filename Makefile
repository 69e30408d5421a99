# make run    start the gateway          make test   everything that is tested
# make demo   the same without any key   make check  linters, types and import contracts
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: run demo test check install install-test lock clean

run: install
	@$(BIN)/fingerpost run configs/serve.yaml

demo: install
	@$(BIN)/fingerpost run configs/demo.serve.yaml \
	  --beside "$(BIN)/python -m tests.scripted_provider --port 9009"

test: install-test
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report --skip-covered --fail-under=95

check: install-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The locks are complete, so pip resolves nothing; stamps keep a second run quick.
install: .venv/base.stamp
install-test: .venv/test.stamp

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/base.stamp: requirements/base.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/base.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/test.stamp: requirements/test.txt .venv/base.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/test.txt
	@touch $@

# Needs uv. Only this resolves; everything else installs what it wrote.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" requirements/base.in -o requirements/base.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" requirements/test.in -o requirements/test.txt

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .coverage
