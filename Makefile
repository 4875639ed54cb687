# The two commands of a newcomer are `make demo` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test check unit property simulate engines apiserver e2e faults localcluster bench generate setup

CLUSTER ?= local
CONTEXT ?=
IMAGE ?=
SEEDS ?= 10000
ROUNDS ?= 2
UV := hack/uv
RUN := $(UV) run --frozen
CHART := helm/cachecluster-operator
CRDS := crds/cacheclusters.cachecluster.dev.yaml $(CHART)/templates/crd.yaml
PYTEST := $(RUN) pytest -q
SCENARIOS = $(PYTEST) e2e/scenarios --ignore e2e/scenarios/test_localcluster.py --durations 25 --platform $(CLUSTER) $(if $(CONTEXT),--context $(CONTEXT))
WHERE = --cluster $(CLUSTER) $(if $(CONTEXT),--context $(CONTEXT)) $(if $(IMAGE),--image $(IMAGE))

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(if $(filter local,$(CLUSTER)),setup) ## A cache cluster on a real Kubernetes: CLUSTER=local (default) | kind | existing CONTEXT=name IMAGE=ref
	$(RUN) python -m e2e.demo $(WHERE)

demo-down: ## Remove everything that `make demo` has made
	$(RUN) python -m e2e.demo down $(WHERE)

test: ## Everything that can be proven, on a machine that has nothing installed yet
	hack/test

setup: ## Install what the local cluster and the tests need (Debian packages, as root)
	$(RUN) python -m e2e.localcluster setup

check: ## Format, lint, types, layers, generated files, chart
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) python -m cachecluster.api.crd --check $(CRDS)
	$(RUN) python -m cachecluster.api.reference --check docs/reference.md
	hack/helm-check

unit: ## Pure tests, in seconds
	$(PYTEST) tests/unit tests/property

simulate: ## Fault schedules in the simulated world: SEEDS=10000
	$(PYTEST) -n auto tests/simulation --seeds $(SEEDS)

engines: ## Real engine processes, more at once than there are processors: tests mostly wait
	$(PYTEST) -n 6 --maxschedchunk 1 tests/engines

apiserver: ## A real API server
	$(PYTEST) tests/apiserver

localcluster: ## The local cluster itself: boots, breaks, heals, leaves nothing behind
	$(PYTEST) e2e/scenarios/test_localcluster.py

e2e: ## Scenarios on a real cluster: CLUSTER=local (default) | kind | existing CONTEXT=name
	$(SCENARIOS) -m "not alone" -n 2 --dist loadfile
	$(SCENARIOS) -m alone

faults: ## Every class of faults, 1 to 6 shards, with and without volumes: ROUNDS=2, some hours; not part of `make test`
	$(PYTEST) e2e/scenarios/test_faults.py --fault-rounds $(ROUNDS) -rP --platform $(CLUSTER)

bench: ## Measure against the targets of docs/design.md
	$(RUN) python -m bench

generate: ## Write the CRD and the field reference from the models
	$(RUN) python -m cachecluster.api.crd --write $(CRDS)
	$(RUN) python -m cachecluster.api.reference --write docs/reference.md
