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

# A mark stands for all of them: while one is missing, it is named and tried again the next time.
run/clients/.done: scripts/apart
	@PYTHON=$(PYTHON) sh scripts/apart run/clients npm:@anthropic-ai/claude-code npm:@openai/codex npm:opencode-ai \
		pip:aider:aider-chat pip:mini:mini-swe-agent,mcp
	@touch $@

test-clients: $(VENV)/.dev  ## drive the real Claude Code, Codex, OpenCode, aider and mini-swe-agent (npm, PyPI)
	-@$(MAKE) --no-print-directory run/clients/.done
	SAMEDIFF_CLIENTS=$(CURDIR)/run/clients/node_modules/.bin:$(CURDIR)/run/clients/aider/bin:$(CURDIR)/run/clients/mini/bin \
		$(BIN)/python -m pytest -m clients -rs

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

# A bench that can't do without data ends with its usage line and 2.
bench: $(VENV)/.dev  ## speed and size figures, as ratios side by side
	@left=; for bench in tests/bench/bench_*.py; do \
		echo "== $$bench"; $(BIN)/python $$bench; code=$$?; \
		if [ $$code = 2 ]; then left="$$left $${bench##*/}"; elif [ $$code != 0 ]; then exit 1; fi; \
	done; echo "left out, for want of DATA:$$left"

run/bench/.done: scripts/apart
	@PYTHON=$(PYTHON) sh scripts/apart run/bench 'pip:litellm:litellm[proxy]' pip:switchyard:nemo-switchyard
	@touch $@

bench-gateway: $(VENV)/.dev  ## what a request costs here and through LiteLLM and Switchyard (PyPI)
	-@$(MAKE) --no-print-directory run/bench/.done
	$(BIN)/python tests/bench/bench_rivals.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) run build dist *.egg-info
