# The pipeline. Targets are files: what is there and newer than what it depends on is not made again.
#   make reproduce [PRESET=demo] [SEEDS="0 1 2"]     make help tells the rest
PRESET ?= demo
SEEDS ?= 0
# the first Python 3.11 or 3.12 that really runs
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
ifdef CIRLIB_HOME
override CIRLIB_HOME := $(abspath $(CIRLIB_HOME))
export CIRLIB_HOME
endif
HOME_DIR := $(or $(CIRLIB_HOME),.)

DATAFILES := $(wildcard params/$(PRESET)/data*.yaml)
ifeq ($(DATAFILES),)
$(error unknown PRESET '$(PRESET)'; there are: $(notdir $(wildcard params/*)))
endif

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PARAMS := params/$(PRESET)
RUNS := $(HOME_DIR)/runs/$(PRESET)
FIGURES := $(HOME_DIR)/figures/$(PRESET)
# a preset has one bank for each of its data*.yaml, where the line `bank:` of it says
bank_words = $(shell sed -n 's/ *\#.*//; s/^bank: *//p' $(1) | tr -d "\"'")
bank_line = $(if $(filter 1,$(words $(call bank_words,$(1)))),$(call bank_words,$(1)),$(error $(1) needs one line `bank: PATH`, without spaces))
bank_of = $(patsubst $(HOME_DIR)/~/%,$(HOME)/%,$(patsubst $(HOME_DIR)//%,/%,$(HOME_DIR)/$(call bank_line,$(1))))/bank.json
BANKS := $(foreach file,$(DATAFILES),$(call bank_of,$(file)))
ROWS := $(filter-out data data-%,$(basename $(notdir $(wildcard $(PARAMS)/*.yaml))))
TRAINED := $(foreach row,$(ROWS),$(foreach seed,$(SEEDS),$(RUNS)/$(row)/seed$(seed)/train.json))
METRICS := $(TRAINED:train.json=metrics.json)
MAPPED := $(or $(filter multi-infonce,$(ROWS)),$(lastword $(ROWS)))
SPACE := $(RUNS)/$(MAPPED)/seed$(firstword $(SEEDS))/space.json
# papermill writes the executed notebook next to the results that it made; one progress line per notebook
NOTEBOOK = cd notebooks && ../$(PY) -m papermill --no-progress-bar --log-level ERROR
OUT = $(abspath $(RUNS))/notebooks

export PYTHONUNBUFFERED := 1

.PHONY: reproduce test lint lab bank figures readme clean distclean help setup
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

reproduce: $(BANKS) $(FIGURES)/table_mixture.json ## set up, render, train, evaluate, write figures/PRESET
	@$(if $(CIRLIB_HOME),true,$(if $(filter demo,$(PRESET)),$(PY) -m cirlib.report demo,true))
	@cat $(FIGURES)/table_mixture.md $(FIGURES)/table_single.md

test: $(READY) ## set up, run the tests
	$(PY) -m pytest

lint: $(READY) ## ruff
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

lab: $(READY) ## open the notebooks in JupyterLab
	$(PY) -m jupyter lab notebooks

bank: $(BANKS) ## only the sounds of PRESET

figures: $(READY) ## only the tables and figures of PRESET, from the runs that are there
	@mkdir -p $(OUT)
	@$(NOTEBOOK) 06_paper.ipynb $(OUT)/06_paper.ipynb -p preset $(PRESET)

clean: ## delete the runs and the bank of PRESET (figures stay)
	rm -rf $(RUNS)
	@for bank in $(BANKS:/bank.json=); do \
		if [ -f $$bank/bank.json ]; then echo "rm -rf $$bank"; rm -rf $$bank; fi; \
		if [ -f $$bank.building/spec.json ]; then echo "rm -rf $$bank.building"; rm -rf $$bank.building; fi; done

distclean: ## delete the environment and all runs; sounds in data/ and figures stay
	rm -rf $(VENV) *.egg-info $(HOME_DIR)/runs

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "  PRESET: $(notdir $(wildcard params/*))    rows of $(PRESET): $(ROWS)"

setup: $(READY) ## the Python environment in .venv

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none was found: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

define bank_rules
$(call bank_of,$(1)): $(1) notebooks/01_data.ipynb | $(READY)
	@mkdir -p $(OUT)
	@echo "sounds of $(1) (01_data)"
	@$$(NOTEBOOK) 01_data.ipynb $(OUT)/01_data_$(basename $(notdir $(1))).ipynb -f ../$(1)
	@touch $$@
endef
$(foreach file,$(DATAFILES),$(eval $(call bank_rules,$(file))))

define row_rules
$(RUNS)/$(1)/seed$(2)/train.json: $(PARAMS)/$(1).yaml $(BANKS) notebooks/02_train.ipynb
	@echo "training $(1), seed $(2) (02_train)"
	@$$(NOTEBOOK) 02_train.ipynb $(OUT)/02_train_$(1)_seed$(2).ipynb -f ../$(PARAMS)/$(1).yaml -p seed $(2)
	@touch $$@

$(RUNS)/$(1)/seed$(2)/metrics.json: $(RUNS)/$(1)/seed$(2)/train.json notebooks/03_retrieve.ipynb
	@echo "testing $(1), seed $(2) (03_retrieve)"
	@$$(NOTEBOOK) 03_retrieve.ipynb $(OUT)/03_retrieve_$(1)_seed$(2).ipynb -p preset $(PRESET) -p experiment $(1) -p seed $(2)
endef
$(foreach row,$(ROWS),$(foreach seed,$(SEEDS),$(eval $(call row_rules,$(row),$(seed)))))

$(SPACE): $(RUNS)/$(MAPPED)/seed$(firstword $(SEEDS))/metrics.json notebooks/04_embedding_space.ipynb
	@echo "embedding space (04_embedding_space)"
	@$(NOTEBOOK) 04_embedding_space.ipynb $(OUT)/04_embedding_space.ipynb -p preset $(PRESET) -p experiment $(MAPPED) -p seed $(firstword $(SEEDS))

$(FIGURES)/table_mixture.json: $(METRICS) $(SPACE) notebooks/06_paper.ipynb
	@echo "tables and figures (06_paper)"
	@$(NOTEBOOK) 06_paper.ipynb $(OUT)/06_paper.ipynb -p preset $(PRESET)
	@touch $@
