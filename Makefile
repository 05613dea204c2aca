# One verb each. The scripts/ do the work and set up what they need.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' exporter/__init__.py)
IMAGE ?= dualstack-exporter:$(VERSION)
# A name without registry means docker.io/library/ to the kubelet but localhost/ to podman, so it is given in full.
TAG := $(if $(findstring /,$(IMAGE)),$(IMAGE),docker.io/library/$(IMAGE))
REVISION ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
CONTAINER_TOOL ?= $(shell command -v podman || command -v docker)

.DEFAULT_GOAL := help
.PHONY: help run test fast lint format lock attack fuzz soak libc-worlds bench demo image archive publish manifest alerts dashboards pictures reference krew

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## set up and start the exporter on port 10046
	scripts/run

test: ## set up and run every check and test (as root: also those on real kernels and servers)
	scripts/test

fast: ## linters and unit tests only
	scripts/test --fast

lint: ## linters and types only
	scripts/test --lint

format: ## format the Python sources
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix --quiet .

lock: ## update the lock files to the newest versions
	scripts/lock

.PHONY: audit
audit: ## ask the package index for known vulnerabilities of the packages in the image
	scripts/audit

attack: ## the attacks of SECURITY.md, each as a test (as root: also those on real kernels)
	scripts/test -m attack

fuzz: ## a million inputs to each reader of bytes of others: DNS, netlink, the broker's wire, Corefiles and more
	scripts/fuzz

soak: ## 10,000 fast rounds while 10,000 namespaces come and go: no false cause, nothing that grows (root)
	scripts/soak

libc-worlds: ## 4,000 worlds of damaged DNS replies, 2,000 of usual ones and 4,000 files, on this machine's glibc and musl (root)
	DAMAGED_WORLDS=4000 LIBC_WORLDS=2000 CONF_WORLDS=4000 scripts/test tests/wire/test_libc_truth.py

bench: ## measure what the exporter costs against the usual tools; prints one table with pass or fail
	scripts/bench

demo: ## a small dual-stack lab with a fault in it, and the exporter's report
	scripts/demo $(FAULT)

image: ## build the container image; IMAGE=name:tag
	$(CONTAINER_TOOL) build $(if $(findstring podman,$(CONTAINER_TOOL)),--format docker) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --tag $(TAG) .

archive: image ## the image as build/image.tar, for `microk8s images import` or `ctr -n k8s.io images import`
	mkdir -p build
	$(CONTAINER_TOOL) save --output build/image.tar $(TAG)

publish: image ## build the image, push it to your registry and set it in every manifest and in the chart; IMAGE=registry.example/name:tag
	$(CONTAINER_TOOL) push $(TAG)
	$(MAKE) manifest IMAGE=$(IMAGE)

manifest: ## write deploy/daemonset.yaml from deploy/base/; with IMAGE=name:tag also set the image in every overlay and the chart
	scripts/manifest $(if $(filter command line environment,$(origin IMAGE)),$(IMAGE)) > deploy/daemonset.yaml.new
	mv deploy/daemonset.yaml.new deploy/daemonset.yaml

.PHONY: chart
chart: ## write the generated files of the Helm chart: what it shares with deploy/, alerts/ and grafana/, and its schema
	scripts/chart

alerts: ## write the generated files of alerts/: the PrometheusRules and Alertmanager's inhibition rules; and the chart's
	scripts/alerts
	scripts/chart

dashboards: ## write grafana/*.json from the panels, and the chart's
	.venv/bin/python -m grafana.dashboards
	scripts/chart

pictures: ## draw docs/dashboard-*.png from the lab's real data; some minutes
	scripts/dashboards-picture

.PHONY: release
release: ## build what a release consists of into dist/, check it, and publish nothing; TAG=v0.1.1 as for that tag
	scripts/release $(TAG)

krew: ## write the manifest of the kubectl plugin for krew
	.venv/bin/python -m scripts.krew

reference: ## write the generated tables and the picture of the architecture into docs/
	scripts/reference
