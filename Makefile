# `make demo` runs the main job from nothing; `make test` passes the tests; `make` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/agent-scaling
INSTALLED := $(VENV)/.installed
FOR_TESTS := $(VENV)/.installed-for-tests
# Images often set it; without bytecode, each program of the tests compiles this package anew, for a second.
unexport PYTHONDONTWRITEBYTECODE
# Compiling all that is installed takes pip a minute. What these import, and so compile, is what runs need.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable
COMPILED := agent_scaling.studies.study, agent_scaling.training.train, agent_scaling.scaling.fitting.analysis, \
	agent_scaling.playing.rollouts.rollout, callbacks.tracking, data_modules.shards, mlflow.store.tracking.sqlalchemy_store
DEMO := outputs/demo
JOBS := 3
QUICK := tests/test_imports.py tests/config tests/policies/test_policy.py tests/policies/cores/test_cores.py \
	tests/training/objectives tests/training/optim/test_schedules.py tests/data/shards/test_codec.py \
	tests/data/windows tests/scaling/test_minima.py

PYTHONS := 3.12 3.13
FUZZED := manifest index chunk xlogfile ttyrec checkpoint csv
INPUTS := 1000000

.PHONY: help demo test check pythons lint style types fuzz audit format ui docs benchmarks clean

help:
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

define install
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(1)
	@$(BIN)/python -c "import $(COMPILED)"
	@touch $(INSTALLED) $@
endef

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV): one to five minutes, about 2 GB without CUDA"
	$(call install,.)

$(FOR_TESTS): pyproject.toml constraints.txt
	@echo "installing into $(VENV), with the tools of the tests: two to eight minutes"
	$(call install,'.[dev]')

demo: $(INSTALLED) ## the main job from nothing: play games, shard them, a study in its smallest form
	$(RUN) demonstrate games=900 max_steps=500 output=$(DEMO)/games
	$(RUN) shard input=$(DEMO)/games output=$(DEMO)/shards val_fraction=0.2
	$(RUN) study study=demo train.data.shards=$(DEMO)/shards output=$(DEMO)/study
	@echo "Report: $(DEMO)/study/fit/report.html. Every number is in MLflow: make ui, then open http://127.0.0.1:5000/#/?workflowType=machine_learning"

test: $(FOR_TESTS) ## the tests, JOBS files at a time
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

check: style types ## lint and the quickest tests, in about two minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(QUICK)

pythons: ## the quickest tests under PYTHONS, each in build/python3.13 or so
	@for version in $(PYTHONS); do \
		echo "Python $$version: installing into build/python$$version"; \
		python$$version -m venv build/python$$version || exit 1; \
		build/python$$version/bin/python -m pip install --quiet --constraint constraints.txt --editable . \
			pytest filelock hypothesis || exit 1; \
		OMP_NUM_THREADS=1 build/python$$version/bin/python -m pytest $(QUICK) || exit 1; \
	done

lint: style types audit ## ruff, import rules, mypy, known vulnerabilities

style: $(FOR_TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(FOR_TESTS)
	$(BIN)/mypy

fuzz: $(FOR_TESTS) ## coverage-guided fuzzing of all readers; goes on where it was stopped
	@$(PIP) '.[fuzz]'
	@for target in $(FUZZED); do $(BIN)/python -m tests.fuzz.run $$target --inputs $(INPUTS) || exit 1; done

audit: $(FOR_TESTS) ## known vulnerabilities of what is installed (pip-audit)
	$(BIN)/python .ci/audit

format: $(FOR_TESTS) ## ruff's fixes and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(INSTALLED) ## the MLflow UI on this folder's store, http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///mlflow.db

docs: $(FOR_TESTS) ## the documentation as a site: build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmarks: $(FOR_TESTS) ## every benchmark; each prints ratios against a peer
	for f in atari data demonstrator fit impala mup policy rollouts tables tune; do $(BIN)/python benchmarks/$$f.py || exit 1; done

clean: ## remove what the demo made
	rm -rf $(DEMO)
