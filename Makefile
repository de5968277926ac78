# Every target makes the virtual environment it needs; `make serve` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
DATA ?=
MODEL ?= mnist-conv
ARGS ?=
ENGINE ?= docker
EXTRAS ?=
FUZZ := .venv-fuzz
DETECTION := .venv-detection
SMOKE := .venv-smoke
TABLES ?= data/adbench
SECONDS ?= 30
# lets an environment find what is installed in the usual one
borrow = $(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	> $$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/usual.pth

.PHONY: serve test check format schema cover fuzz interop train smoke-train evaluate zoo bench detection slow-clients image image-check lock clean help
.DEFAULT_GOAL := help

help:           ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: $(VENV)/serve.stamp  ## serve the bundled models on port 8000
	$(BIN)/hourglass serve $(ARGS)

test: $(VENV)/dev.stamp  ## every test that needs nothing but the lock file, in two processes; ARGS="-n 0 -x --pdb" to look into one
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/dev.stamp  ## lint, types, the direction of imports, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/dev.stamp  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(VENV)/serve.stamp  ## write docs/model.schema.json, the JSON Schema of model.json, anew
	$(BIN)/python -m service.repository.schema > docs/model.schema.json

cover: $(VENV)/dev.stamp  ## the tests with branch coverage, at least 95 %
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage report

fuzz: $(FUZZ)/fuzz.stamp  ## let a fuzzer invent what clients send, SECONDS=30 for all parsers together; ARGS=json for one
	$(FUZZ)/bin/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

interop: $(VENV)/dev.stamp  ## the service with the clients of others and models exported by others' frameworks, in environments of their own; ARGS="triton torch" for some
	$(BIN)/python -m tests.interop $(ARGS)

train: $(VENV)/train.stamp  ## train, export, calibrate and measure a model: MODEL=mnist-conv, DATA=FOLDER of its data set
	$(BIN)/python -m training $(MODEL) $(if $(DATA),--data $(DATA)) $(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS)) $(ARGS)

smoke-train: $(SMOKE)/smoke.stamp  ## train a small model for a few steps, export, serve and ask it; ARGS=tests/training for every test of the recipes
	$(SMOKE)/bin/python -m pytest $(or $(ARGS),tests/training/test_smoke.py)

evaluate: $(VENV)/serve.stamp  ## recompute every figure of the model cards through a running service and compare: DATA=data/mnist TABLES=data/adbench
	$(BIN)/python -m training.evaluate --data $(or $(DATA),data/mnist) --tables $(TABLES) $(ARGS)

zoo: $(VENV)/serve.stamp  ## write docs/zoo.md anew from the model cards
	$(BIN)/python -m training.zoo

bench: $(VENV)/serve.stamp  ## measure the service beside others, about 22 minutes; ARGS=--quick to try it out; needs wrk
	$(BIN)/python -m benchmarks $(ARGS)

detection: $(DETECTION)/detection.stamp  ## how well anomalies are found beside other detectors, two hours: TABLES=data/adbench DATA=data/mnist
	OMP_NUM_THREADS=1 $(DETECTION)/bin/python -m benchmarks.detection --tables $(TABLES) --digits $(or $(DATA),data/mnist) $(ARGS)

slow-clients: $(VENV)/serve.stamp  ## attack a server with 500 slow clients of each kind and look at the others, 4 minutes; needs slowhttptest
	$(BIN)/python -m benchmarks.slow_clients $(ARGS)

image:          ## build the container image hourglass:cpu; with EXTRAS=cuda hourglass:cuda; ENGINE=podman for podman
	BUILDAH_FORMAT=docker $(ENGINE) build --build-arg EXTRAS=$(EXTRAS) -t hourglass:$(or $(EXTRAS),cpu) .

image-check:    ## build the image and run it as it is meant to run, a few minutes; needs docker or podman, or root on Debian
	EXTRAS=$(EXTRAS) deploy/image-check

lock: $(VENV)/dev.stamp  ## write requirements/*.txt anew from pyproject.toml
	$(PIP) install uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	    --upgrade pyproject.toml --group build -o requirements/serve.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	    --upgrade -c requirements/serve.txt pyproject.toml --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	    --upgrade -c requirements/serve.txt pyproject.toml --group fuzz -o requirements/fuzz.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	    --upgrade -c requirements/serve.txt pyproject.toml --extra cuda --group build -o requirements/cuda.txt

clean:          ## remove the environment and every cache
	rm -rf $(VENV) $(FUZZ) $(DETECTION) $(SMOKE) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hourglass needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: requirements/serve.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/serve.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/serve.stamp
	$(PIP) install --require-hashes -r requirements/dev.txt
	touch $@

# atheris has wheels for few platforms and nobody should have to build it: without it nothing is fuzzed, and that is said
$(FUZZ)/fuzz.stamp: requirements/fuzz.txt $(VENV)/dev.stamp
	$(PYTHON) -m venv $(FUZZ)
	$(call borrow,$(FUZZ))
	$(FUZZ)/bin/python -m pip --disable-pip-version-check -q install --only-binary atheris --require-hashes \
	    -r requirements/fuzz.txt && touch $@ \
	    || echo "atheris cannot be installed for this Python on this platform; pip says above why"

# PyTorch is not in the lock file: its builds differ by machine, and serving never needs it
$(VENV)/train.stamp: training/requirements.txt $(VENV)/serve.stamp
	$(PIP) install -r training/requirements.txt
	touch $@

# the same, for the tests: beside the environment of all others, which must not need PyTorch
$(SMOKE)/smoke.stamp: training/requirements.txt $(VENV)/dev.stamp
	$(PYTHON) -m venv $(SMOKE)
	$(call borrow,$(SMOKE))
	$(SMOKE)/bin/python -m pip --disable-pip-version-check -q install -r training/requirements.txt
	touch $@

# detectors of others bring a lot with them, so they have an environment of their own
$(DETECTION)/detection.stamp: benchmarks/detection/requirements.txt requirements/serve.txt
	$(PYTHON) -m venv $(DETECTION)
	$(DETECTION)/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements/serve.txt
	$(DETECTION)/bin/python -m pip --disable-pip-version-check -q install -r benchmarks/detection/requirements.txt
	touch $@
