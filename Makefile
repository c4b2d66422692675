# Every target sets itself up, from nothing: a virtual environment in .venv from the pins in requirements/.
#
#   make run     the demo: an offline Graph, the sidecar and sample traffic; needs no network and no token
#   make test    everything that CI runs
#   make long    the tests that take hours, in parts (docs/development.md); `make long ARGS="chaos storms"`, and with ARGS=--short their short forms
#   make fuzz    looks for inputs that reach new code, a minute for each parser; `make fuzz ARGS="--seconds 600 heads"`
#   make image-test  the image, built and run on a real Docker engine (started here where none answers)
#   make wheel   builds a wheel and its pins in dist/, for machines without a checkout
#   make sbom    writes the software bill of materials, dist/sbom.cdx.json (CycloneDX)
#   make lint    ruff and mypy alone
#   make format  rewrites the sources as ruff would have them
#   make bench   measures each claim against nginx and against no proxy; `make bench ARGS=soak` takes half an hour
#   make settings  writes docs/settings.md and config/graph-sidecar.toml from the model of the settings
#   make pins    writes requirements/ anew with the newest versions
#   make clean   removes all that the other targets made

VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venvs/clients/.installed .venvs/tap-facebook/.installed .venvs/node/.installed
BROWSER := .venvs/browser/.installed
PROGRAMS := .venvs/.programs
STORE := .venvs/store/.installed
ENVIRONMENTS := $(VENV)/.tools .venvs/sbom/.installed .venvs/advisories/.installed $(CLIENTS) $(BROWSER) $(PROGRAMS) $(STORE)

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help run test long fuzz image-test wheel sbom lint format bench settings pins clean environments

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

run: $(VENV)/.installed
	@$(BIN)/graph-sidecar demo $(ARGS)

test: environments
	@scripts/check lint pytest

long: $(VENV)/.tools
	@scripts/long $(ARGS)

fuzz: .venvs/fuzz/.installed
	@.venvs/fuzz/bin/python -m tests.fuzz $(ARGS)

image-test: $(VENV)/.tools
	@scripts/image-test $(ARGS)

wheel: $(VENV)/.installed
	@scripts/wheel

sbom: .venvs/sbom/.installed
	@scripts/sbom

lint: $(VENV)/.tools
	@scripts/check lint

format: $(VENV)/.tools
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.tools
	@scripts/bench $(ARGS)

settings: $(VENV)/.installed
	@$(BIN)/python -m scripts.settings_pages

pins:
	@scripts/pins

clean:
	@rm -rf $(VENV) .venvs .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Side by side: most of making one is waiting for its packages.
environments:
	@$(MAKE) --no-print-directory --jobs $(ENVIRONMENTS)

# The product alone: this is all that `make run` waits for.
$(VENV)/.installed: requirements/run.txt requirements/build.txt pyproject.toml scripts/environment
	@scripts/environment $(VENV) requirements/run.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.installed requirements/test.txt
	@scripts/environment $(VENV) requirements/test.txt
	@touch $@

# Real client programs live apart: they pin old versions of what we use.
.venvs/%/.installed: requirements/%.txt requirements/build.txt scripts/environment
	@scripts/environment .venvs/$* requirements/$*.txt
	@touch $@

.venvs/node/.installed: requirements/node/package-lock.json requirements/node/package.json scripts/node-environment
	@scripts/node-environment .venvs/node requirements/node

# Replicas share a real server in the tests, as the system has it; the long ones also Valkey, in an environment of its own.
$(STORE): scripts/store-environment
	@scripts/store-environment .venvs/store

# The dashboard is tested in the Chromium that the system has.
.venvs/browser/.installed: scripts/browser-environment
	@scripts/browser-environment .venvs/browser

# Programs in Java, Perl, PHP, Ruby and the shell are run by what the system has.
$(PROGRAMS): scripts/program-environments
	@mkdir -p .venvs
	@scripts/program-environments .venvs
