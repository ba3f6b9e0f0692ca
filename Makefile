# Everything a newcomer types. Python, Java and Maven are looked for by scripts/setup.py, which says what is missing.
# What is built lies in ${POSTYARD_CACHE:-~/.cache/postyard}; the clone only gets a link, .venv.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell command -v $(name) >/dev/null && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))) python3)
RUN := PYTHONPATH=. .venv/bin/python
CACHE := $(or $(POSTYARD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/postyard)
UV := $(CACHE)/uv/bin/uv
# Tests start services by the hundred, and pytest rewrites each test module: compiled once, beside the clone and not in it.
export PYTHONPYCACHEPREFIX := $(CACHE)/bytecode
export PYTHONDONTWRITEBYTECODE :=
KILLS ?= 20
# More than the cores: fault tests wait for most of their time. All workers share one broker.
WORKERS ?= 4
SECONDS ?= 60
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test check chart chart-full chart-schemas k8s-test image-test format bench bench-scheduler verify faults hunt simulate lock

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  The command line of the services is .venv/bin/python -m services.cli (installed: postyard)."
	@echo "  PYTHON=… chooses the interpreter, POSTYARD_CACHE=… where downloads are kept, ARGS=… adds words to the command."

setup: ## make the clone ready: packages (Debian, as root), virtual environment, Kafka's jars
	@$(PYTHON) scripts/setup.py

demo: setup ## send 2,000 messages through a whole cluster on this machine, watch, and account for each
	@$(RUN) -m services.cli.demo run $(ARGS)

up: setup ## start the demo's cluster and keep it running
	@$(RUN) -m services.cli.demo up $(ARGS)

down: setup ## stop what `make up` started
	@$(RUN) -m services.cli.demo down $(ARGS)

test: setup ## run all tests, on a real Kafka (ARGS="-k name" for some)
	@$(RUN) -m pytest -n $(WORKERS) $(ARGS)

check: setup ## lint, formatting, types, and which room may know which
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy
	@PYTHONPATH=. .venv/bin/lint-imports --no-cache

chart: setup ## check the Helm chart: lint, every example, schemas, policies, what is rendered (ARGS=--accept takes it over)
	@$(RUN) -m pytest tests/chart -q $(ARGS)

chart-full: setup ## and kubeconform, kube-score, Strimzi's model, the image's steps; the first time builds them (a minute or two)
	@programs="$$($(RUN) -m scripts.linters)" && $(RUN) -m pytest tests/chart --linters "$$programs" -q $(ARGS)

chart-schemas: setup ## take the custom resources' schemas anew from what their projects publish (tests/chart/schemas)
	@go="$$($(RUN) -m scripts.linters go)" && $(RUN) -m scripts.crd_schemas "$$go"

k8s-test: setup ## run the chart on a real API server, its pods as processes; the first time builds a control plane (10 minutes)
	@program=$$($(RUN) scripts/controlplane.py) && \
	  $(RUN) -m pytest tests/k8s --control-plane "$$program" --timeout=0 -s -q $(ARGS)

image-test: setup ## play the Dockerfile in a root of its own Debian and Python, and run the tests and a cluster there (Debian, as root; 5 minutes)
	@$(RUN) -m scripts.image $(if $(FROM),--from $(FROM)) && \
	  $(RUN) -m pytest tests/image --image run/image --timeout=0 -s -q $(ARGS)

format: setup ## format the code, and fix what the linter can fix
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

bench: setup ## measure the pipeline beside Postfix with OpenDKIM; appends to bench.jsonl
	@$(RUN) -m tests.bench $(ARGS)

bench-scheduler: setup ## measure the scheduler: its policy, its memory, its rounds on Kafka; appends to bench.jsonl
	@$(RUN) -m tests.bench.scheduler $(ARGS)

verify: setup ## have signatures of thousands of odd messages judged by dkimpy and OpenDKIM (some minutes)
	@$(RUN) -m pytest tests/unit/services/sender/dkim/test_verified.py -n 2 \
	  --hypothesis-profile=thousands --timeout=0 $(ARGS)

faults: setup ## kill -9 services at random KILLS times (20) while mail is under way, and count what came of it
	@$(RUN) -m pytest tests/faults tests/integration/scheduler/test_warmup.py --long --kills=$(KILLS) --timeout=0 -s $(ARGS)

hunt: setup ## throw random faults at the protocol's code for SECONDS (60) on every core; ends with the seeds that broke it
	@$(RUN) -m tests.protocol hunt $(SECONDS) $(ARGS)

simulate: setup ## simulate a day of two million messages against models of mailbox providers (some minutes)
	@mkdir -p run
	@$(RUN) -m services.cli simulate --config docs/examples/simulation/postyard.toml \
	  --traffic docs/examples/simulation/traffic.toml --plot run/simulation.svg $(ARGS)

lock: ## bring requirements.lock up to pyproject.toml (ARGS=--upgrade for newer versions)
	@test -x $(UV) || ($(PYTHON) -m venv $(CACHE)/uv && $(CACHE)/uv/bin/python -m pip install --quiet uv)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes \
	  --custom-compile-command 'make lock' --output-file requirements.lock $(ARGS) pyproject.toml
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes -c requirements.lock \
	  --custom-compile-command 'make lock' --output-file requirements.runtime.lock pyproject.toml
	@$(UV) pip compile --quiet --no-deps --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command 'make lock' --output-file helm/tools.lock $(ARGS) helm/tools.in
	@$(UV) pip compile --quiet --no-deps --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command 'make lock' --output-file tests/k8s/controlplane/go.lock $(ARGS) tests/k8s/controlplane/go.in
