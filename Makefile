# What a stranger types: make run, make test. A plain venv and pip; nothing else is needed than Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install run test test-clients lint types wheel-test bench bench-gateway prior clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/.train: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[train,languages]' --group dev
	@touch $@

install: $(VENV)/.dev  ## set up .venv with everything a developer needs

run: $(VENV)/.train  ## ingest the sample, train, evaluate beside the controls, then serve (SAMEDIFF_ONCE=1: exit instead)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/run

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

run/clients/.done:
	npm install --silent --no-audit --no-fund --prefix run/clients @anthropic-ai/claude-code @openai/codex opencode-ai
	-$(PYTHON) -m venv run/clients/aider && run/clients/aider/bin/pip install -q aider-chat
	-$(PYTHON) -m venv run/clients/mini && run/clients/mini/bin/pip install -q mini-swe-agent mcp
	@touch $@

test-clients: $(VENV)/.dev run/clients/.done  ## drive the real Claude Code, Codex, OpenCode, aider and mini-swe-agent (npm, PyPI)
	SAMEDIFF_CLIENTS=$(CURDIR)/run/clients/node_modules/.bin:$(CURDIR)/run/clients/aider/bin:$(CURDIR)/run/clients/mini/bin \
		$(BIN)/python -m pytest -m clients

lint: $(VENV)/.dev  ## style and the one-way rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## mypy strict
	$(BIN)/mypy

wheel-test: $(VENV)/.dev  ## build the wheel, install it beside a decoy models/ folder, run it there
	$(BIN)/python tests/check_wheel.py

prior: $(VENV)/.train  ## train models/prior again from the public sets in sample/
	$(BIN)/python -m training.prior

bench: $(VENV)/.dev  ## speed and size figures, as ratios side by side
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

run/bench/.done:
	-$(PYTHON) -m venv run/bench/litellm && run/bench/litellm/bin/pip install -q 'litellm[proxy]'
	-$(PYTHON) -m venv run/bench/switchyard && run/bench/switchyard/bin/pip install -q nemo-switchyard
	@touch $@

bench-gateway: $(VENV)/.dev run/bench/.done  ## what a request costs here and through LiteLLM and Switchyard (PyPI)
	$(BIN)/python tests/bench/bench_rivals.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) run build dist *.egg-info
