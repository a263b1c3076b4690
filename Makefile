# Every target makes what it needs: an environment in .venv, the locked packages, the model weights.
# A second run finds all of it there and does nothing.

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
UV_VERSION = 0.13.9

VENV = .venv
CLIENTS = .venv-clients
UV = $(VENV)/bin/uv
LOCK = $(UV) pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11

# What to add to the command at the end: make serve ARGS="--port 9000", make test ARGS="-k budget".
ARGS =

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help demo test long fuzz serve bench peers pipeline prompts recognition soak cost control browser chromium check check-prompts install models clients lock clean

help: ## List the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install models ## Call, lose the provider, hear the call go on
	$(VENV)/bin/orchestrator demo $(ARGS)

test: check models clients ## Run the checks, then every test
	$(VENV)/bin/pytest -n 2 --dist loadfile -m "not long and not fuzz" $(ARGS)

long: install models clients ## Run the tests that take minutes: whole calls, many times over
	$(VENV)/bin/pytest -n 2 --dist loadfile -m long $(ARGS)

fuzz: install models ## Ask the HTTP API ten thousand requests; FUZZ_SEED=1 says which
	$(VENV)/bin/pytest -m fuzz -rP tests/api $(ARGS)

serve: install models ## Run the orchestrator
	$(VENV)/bin/orchestrator serve $(ARGS)

bench: install models ## Measure the failover; tables and plots go to benchmarks/results
	$(VENV)/bin/python -m benchmarks.failover $(ARGS)

peers: install models ## Compare with peers; installs them into .venv-peers-*
	$(VENV)/bin/python -m benchmarks.peers $(ARGS)

pipeline: install models ## Measure Tier B voice to voice, beside Pipecat
	$(VENV)/bin/python -m benchmarks.pipeline $(ARGS)

prompts: install models ## Measure fixed prompts over HTTP, beside nginx and a Kokoro server
	$(VENV)/bin/python -m benchmarks.prompts $(ARGS)

recognition: install models ## Count the words that Tier B mishears
	$(VENV)/bin/python -m benchmarks.recognition $(ARGS)

soak: install models ## Hold 50 calls for ten minutes while the provider keeps failing
	$(VENV)/bin/python -m benchmarks.soak $(ARGS)

cost: install ## Place 10,000 simulated calls under budgets: what they cost, who answers
	$(VENV)/bin/python -m benchmarks.cost $(ARGS)

control: install models ## Force a tier on 200 live calls of two replicas: when the last one is told
	$(VENV)/bin/python -m benchmarks.control $(ARGS)

browser: install chromium ## Look at the dashboard in a headless Chromium: its tests alone
	$(VENV)/bin/pytest tests/browser -ra $(ARGS)

chromium: ## Install Debian's Chromium for that, where it is missing and this may
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null \
		|| echo "Chromium could not be installed; tests of the dashboard will be skipped." >&2; \
	else echo "Chromium is not installed, and this may not install it; tests of the dashboard will be skipped." >&2; fi

check-prompts: install models ## Hear every digit, amount and status of 200 stitched prompts
	$(VENV)/bin/python -m benchmarks.round_trip $(ARGS)

check: install ## Lint, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

install: $(VENV)/.installed ## Make .venv with the locked packages

models: install ## Fetch the model weights
	@$(VENV)/bin/orchestrator models fetch

clients: $(CLIENTS)/.locked ## Make .venv-clients: client libraries that cannot share .venv

lock: $(VENV)/.uv ## Resolve the dependencies again
	$(LOCK) --upgrade --extra dev --extra plots pyproject.toml --output-file requirements.lock
	$(LOCK) --upgrade tests/clients/requirements.in --output-file tests/clients/requirements.lock
	for peer in livekit litellm pipecat fastkokoro; do \
		$(LOCK) --upgrade benchmarks/peers/$$peer.in --output-file benchmarks/peers/$$peer.lock || exit 1; done

clean: ## Remove the environments and all output; the weights stay in your cache directory
	rm -rf $(VENV) $(CLIENTS) .venv-peers-* build dist demo benchmarks/results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "Python 3.11 is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make environments; some systems have that apart (python3.11-venv)." >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.locked: requirements.lock $(VENV)/.uv
	$(UV) pip install --python $(VENV)/bin/python --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

$(CLIENTS)/.locked: tests/clients/requirements.lock $(VENV)/.uv
	$(UV) venv --quiet --allow-existing --python $(VENV)/bin/python $(CLIENTS)
	$(UV) pip install --python $(CLIENTS)/bin/python --require-hashes -r tests/clients/requirements.lock
	@touch $@
