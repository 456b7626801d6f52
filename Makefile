# `make demo` runs the main job from nothing; `make test` passes the tests; `make` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/agent-scaling
INSTALLED := $(VENV)/.installed
DEMO := outputs/demo
JOBS := 3

.PHONY: help demo test lint audit format ui docs benchmarks clean

help:
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## the main job from nothing: play games, shard them, a study in its smallest form
	$(RUN) demonstrate games=96 max_steps=500 output=$(DEMO)/games
	$(RUN) shard input=$(DEMO)/games output=$(DEMO)/shards val_fraction=0.2
	$(RUN) study study=demo train.data.shards=$(DEMO)/shards output=$(DEMO)/study
	@echo "Report: $(DEMO)/study/fit/report.html. Every number is in MLflow: make ui, then open http://127.0.0.1:5000"

test: $(INSTALLED) ## the tests, JOBS files at a time
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED) audit ## ruff, mypy, import rules, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(INSTALLED) ## known vulnerabilities of what is installed (pip-audit)
	$(BIN)/python .ci/audit

format: $(INSTALLED) ## ruff's fixes and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(INSTALLED) ## the MLflow UI on this folder's store, http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///mlflow.db

docs: $(INSTALLED) ## the documentation as a site: build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmarks: $(INSTALLED) ## every benchmark; each prints ratios against a peer
	for f in atari data demonstrator fit holdouts impala mup policy rollouts; do $(BIN)/python benchmarks/$$f.py || exit 1; done

clean: ## remove what the demo made
	rm -rf $(DEMO)
