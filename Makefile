# make run    start the gateway          make test   what is tested in minutes
# make demo   the same without any key   make check  linters, types and import contracts
# make wheel  dist/fingerpost-*.whl, for other machines: docs/operate/
PYTHON ?= python3.11
BIN := .venv/bin
# No bytecode of the many modules that never run: it would be a sixth of the installation.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps
# Imported once, so that its bytecode is there before many processes want it at the same time.
USED = import ray._private.worker, serve_app.app, serve_app.cli.main, onnxruntime, tokenizers
# What Ray's own processes import at every start, compiled on all cores: compileall skips the rest.
STARTED = ray/(autoscaler|core/generated|dashboard|_private|serve|util/state)|aiohttp|aiohttp_cors|anyio|colorful|httptools|jinja2|markupsafe|opencensus|opentelemetry|prometheus_client|psutil|pydantic|uvicorn|websockets
# What no test imports, or too little of to be worth it.
UNUSED = torch|vllm|transformers|sympy|numba|llvmlite|networkx|/pip/|setuptools|virtualenv|mypy|ray/(rllib|data|train|tune|llm|air)/
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock"

.PHONY: run demo test test-long check bench reference wheel install install-test lock clean

run: install
	@$(BIN)/fingerpost run configs/serve.yaml

demo: install
	@$(BIN)/fingerpost run configs/demo.serve.yaml --no-dashboard \
	  --beside "$(BIN)/python -m tests.scripted_provider --port 9009"

# Coverage is measured where tests run our code in their own process; it costs those twice the time.
MEASURED = tests/contract tests/matrix tests/unit tests/wire

test: install-test
	$(BIN)/python -m coverage run -m pytest $(MEASURED)
	$(BIN)/python -m coverage report --skip-covered --fail-under=95
	$(BIN)/python -m pytest $(addprefix --ignore=,$(MEASURED))

# What takes minutes: processes of vLLM that are killed, and come back.
test-long: install-test
	$(BIN)/python -m pytest -m long

check: install-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What docs/performance.md shows, 70 minutes; BENCH="--only startup" for a part.
bench: install-test
	$(BIN)/python benchmarks/suite.py $(BENCH)

# configs/gateway.schema.json and the generated pages of docs/reference/.
reference: install
	$(BIN)/python -m serve_app.config.docs.reference
	$(BIN)/python -m serve_app.cli.reference_pages

# The example configuration is inside. Old ones go: cluster.yaml installs whatever lies there.
wheel: .venv/bin/python
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# The locks are complete, so pip resolves nothing; stamps keep a second run quick.
install: .venv/base.stamp
install-test: .venv/test.stamp

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/base.stamp: requirements/base.txt pyproject.toml | .venv/bin/python
	$(PIP) -r requirements/base.txt
	$(PIP) -e .
	@$(BIN)/python -m compileall -q -q -j 0 -x "^(?!.*/site-packages/($(STARTED))/)" .venv/lib || true
	@$(BIN)/python -c "$(USED)"
	@touch $@

.venv/test.stamp: requirements/test.txt requirements/torch.txt .venv/base.stamp
	$(PIP) -r requirements/test.txt -r requirements/torch.txt
	@$(BIN)/python -m compileall -q -q -j 0 -x "$(UNUSED)" .venv/lib || true
	@touch $@

# Needs uv. Only this resolves; everything else installs what it wrote. torch.txt is kept by hand:
# its version has a local part, which is on PyTorch's own index only.
lock:
	$(LOCK) --override requirements/override.txt requirements/base.in -o requirements/base.txt
	$(LOCK) --override requirements/test.override.txt requirements/test.in -o requirements/test.txt

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .coverage
