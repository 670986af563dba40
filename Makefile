# The pipeline. Targets are files: what is there and newer than what it depends on is not made again.
#   make reproduce [PRESET=demo] [ROWS=all] [SEEDS="0 1 2"] [SET="steps=100"]     make help tells the rest
# what the race alone has is made of it unless PRESET says another
PRESET ?= $(if $(filter ablations robustness,$(MAKECMDGOALS)),surge,demo)
RACES := surge
SEEDS ?= $(if $(filter $(PRESET),$(RACES)),0 1 2,0)
# a race (RACES) is run in parts: its tables come from figures/PRESET/race.json, which keeps what finished runs found
TABLES := $(if $(filter $(PRESET),$(RACES)),10_beyond,06_paper)
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
# a preset has one bank for each of its data*.yaml, where the line `bank:` of it says; what a shell would take for more than a name becomes
# a space, and names with spaces are refused
bank_words = $(shell sed -n 's/ *\#.*//; s/^bank: *//p' $(1) | tr -d "\"'" | tr -c 'A-Za-z0-9_./~+=,@\n-' ' ')
bank_line = $(if $(filter 1,$(words $(call bank_words,$(1)))),$(call bank_words,$(1)),$(error $(1) needs one line `bank: PATH`, without spaces))
bank_of = $(patsubst $(HOME_DIR)/~/%,$(HOME)/%,$(patsubst $(HOME_DIR)//%,/%,$(HOME_DIR)/$(call bank_line,$(1))))/bank.json
BANKS := $(foreach file,$(DATAFILES),$(call bank_of,$(file)))
# rows that are made unless ROWS says others (all, names, patterns such as single%)
ROWS_demo := untrained mfcc single-infonce multi-encoder triplet-24 triplet-full-48 infonce-48 multi-infonce family-infonce
ROWS_paper := untrained mfcc timbre-toolbox demucs multi-% family-% single-% triplet-% infonce-%
# rows that are also tested on mixtures of an unknown number of instruments
OPEN_open := untrained multi-infonce multi-infonce-open multi-infonce-open-muon family-infonce-open
OPEN_surge := untrained multi-infonce multi-infonce-open-muon family-infonce
ROWS ?= $(or $(ROWS_$(PRESET)),all)
# $(call notebook,NAME,COPY,ARGUMENTS): run a notebook, its executed copy goes next to the results that it made; one progress line per notebook.
# The copy comes from standard output: papermill keeps the path that it is told in the file (and would warn that this one has no name).
notebook = cd notebooks && $(abspath $(PY)) -W ignore::UserWarning -m papermill --no-progress-bar --log-level ERROR $(1).ipynb - $(3) > $(OUT)/.part; \
	code=$$?; mv $(OUT)/.part $(OUT)/$(2).ipynb; exit $$code
OUT = $(abspath $(RUNS))/notebooks

export PYTHONUNBUFFERED := 1

.PHONY: ablations performance robustness reliability torture fuzz mutants coverage reproduce tables inputs always test lint lab bank figures readme clean distclean help setup
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# written last: a bank that has it is whole, however make ends
.PRECIOUS: $(BANKS)
.NOTPARALLEL:

reproduce: tables ## set up, render, train, evaluate, write figures/PRESET
	@cat $(FIGURES)/table_mixture.md $(FIGURES)/table_single.md $(if $(OPENED),$(FIGURES)/open.md)

# one process for each core; the tests of a file stay together, they share what is made for them
PYTEST := -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(READY) ## set up, run the tests
	$(PY) $(PYTEST)

coverage: $(READY) ## the tests, and which lines of cirlib they run, in other processes too (slower)
	@rm -f .coverage .coverage.*
	$(PY) -m coverage run $(PYTEST)
	@$(PY) -m coverage combine --quiet && $(PY) -m coverage report

reliability: torture fuzz mutants ## all that takes too long for the tests, into figures/reliability (an hour)

torture: $(READY) ## kill building, training, testing, indexing and drawing at random moments
	$(PY) tests/reliability/torture.py

fuzz: $(READY) ## read 10,000 mutated files, try every attack
	$(PY) tests/reliability/fuzz.py --inputs 10500

mutants: $(READY) ## change the code line by line: does a test notice? (SHARE=0.3: some)
	OMP_NUM_THREADS=1 $(PY) tests/reliability/mutants.py --share $(or $(SHARE),1)

lint: $(READY) ## ruff
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

lab: $(READY) ## open the notebooks in JupyterLab
	$(PY) -m jupyter lab notebooks

bank: $(BANKS) ## only the sounds of PRESET

figures: $(READY) ## only the tables and figures of PRESET, from the runs that are there
	@mkdir -p $(OUT)
	@$(call notebook,$(TABLES),$(TABLES),-p preset $(PRESET))

readme: $(READY) ## put the tables of PRESET into README.md, once all of its rows are in figures/
	@$(PY) -m cirlib.reporting.tables $(PRESET)

performance: $(READY) ## measure every stage on this machine, write figures/performance and its table in README.md (3 to 9 minutes; leave it alone meanwhile)
	@mkdir -p $(OUT)
	@$(call notebook,08_performance,08_performance,)
	@$(PY) -m cirlib.reporting.tables performance

ablations: $(BANKS) ## what each idea adds to the recipe of PRESET=surge (an hour for one seed)
	@mkdir -p $(OUT)
	@$(call notebook,11_ablations,11_ablations,-p preset $(PRESET))

robustness: $(READY) ## finished runs of PRESET=surge, with worse queries and other sounds
	@mkdir -p $(OUT)
	@$(call notebook,12_robustness,12_robustness,-p preset $(PRESET))

clean: ## delete the runs and the bank of PRESET (figures stay)
	rm -rf $(RUNS)
	@for bank in $(BANKS:/bank.json=); do \
		if [ -f $$bank/bank.json ]; then echo "rm -rf $$bank"; rm -rf $$bank; fi; \
		if [ -f $$bank.building/spec.json ]; then echo "rm -rf $$bank.building"; rm -rf $$bank.building; fi; done

distclean: ## delete the environment and all runs; sounds in data/ and figures stay
	rm -rf $(VENV) *.egg-info $(HOME_DIR)/runs

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "  PRESET: $(notdir $(wildcard params/*))"
	@echo "  ROWS of $(PRESET): $(ROWS), of $(filter-out data data-%,$(basename $(notdir $(wildcard $(PARAMS)/*.yaml))))"

setup: $(READY) ## the Python environment in .venv

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none was found: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

define bank_rules
$(call bank_of,$(1)): $(1) notebooks/01_data.ipynb | inputs
	@mkdir -p $(OUT)
	@echo "sounds of $(1) (01_data)"
	@$$(call notebook,01_data,01_data_$(basename $(notdir $(1))),-f ../$(1))
	@touch $$@
endef
$(foreach file,$(DATAFILES),$(eval $(call bank_rules,$(file))))

inputs: $(READY) # all that the banks and the chosen rows need and that is not here, in one list
	@$(if $(filter reproduce tables,$(MAKECMDGOALS)),$(if $(METRICS),true,echo "no row of $(PRESET) is named $(ROWS); there are: $(ALL_ROWS)"; exit 1))
	@$(PY) -m cirlib.reporting.inputs $(PRESET) $(CHOSEN)

# NAME SEEDS NOTEBOOK NEEDS: the rules of one row, written to rows.mk from the params files (a file with lists makes several rows)
define row_rules
ALL_ROWS += $(1)
SEEDS_$(1) := $(2)
$(foreach seed,$(2),$(eval $(call $(3)_rules,$(1),$(seed),$(if $(4),$(RUNS)/$(4)/seed$(seed)/train.json))))
endef

define 02_train_rules
$(RUNS)/$(1)/seed$(2)/train.json: $(RUNS)/params/$(1).yaml $(BANKS) notebooks/02_train.ipynb
	@echo "training $(1), seed $(2) (02_train)"
	@$$(call notebook,02_train,02_train_$(1)_seed$(2),-f $(abspath $(RUNS))/params/$(1).yaml -p seed $(2))
	@touch $$@

$(RUNS)/$(1)/seed$(2)/metrics.json: $(RUNS)/$(1)/seed$(2)/train.json notebooks/03_retrieve.ipynb
	@echo "testing $(1), seed $(2) (03_retrieve)"
	@$$(call notebook,03_retrieve,03_retrieve_$(1)_seed$(2),-p preset $(PRESET) -p experiment $(1) -p seed $(2))
endef

define open_rules
$(RUNS)/$(1)/seed$(2)/open.json: $(RUNS)/$(1)/seed$(2)/metrics.json notebooks/09_open_mixtures.ipynb
	@echo "open mixtures of $(1), seed $(2) (09_open_mixtures)"
	@$$(call notebook,09_open_mixtures,09_open_mixtures_$(1)_seed$(2),-p preset $(PRESET) -p experiment $(1) -p seed $(2))
endef

define 05_baselines_rules
$(RUNS)/$(1)/seed$(2)/metrics.json: $(RUNS)/params/$(1).yaml $(BANKS) notebooks/05_baselines.ipynb $(3)
	@echo "baseline $(1), seed $(2) (05_baselines)"
	@$$(call notebook,05_baselines,05_baselines_$(1)_seed$(2),-f $(abspath $(RUNS))/params/$(1).yaml -p seed $(2))
endef

ifneq ($(filter reproduce tables,$(MAKECMDGOALS)),)
include $(RUNS)/rows.mk
endif
$(RUNS)/rows.mk: always $(READY)
	@mkdir -p $(OUT)
	@$(PY) -m cirlib.reporting.rows $(PRESET) $(abspath $@) $(SET)

CHOSEN := $(if $(filter all,$(ROWS)),$(ALL_ROWS),$(filter $(ROWS),$(ALL_ROWS)))
METRICS := $(foreach row,$(CHOSEN),$(SEEDS_$(row):%=$(RUNS)/$(row)/seed%/metrics.json))
# the row whose space is mapped: the first of these
MAPPED := $(firstword $(foreach row,multi-infonce triplet-full-48 triplet-full infonce-48 infonce triplet untrained,$(filter $(row),$(CHOSEN))))
SPACE := $(MAPPED:%=$(RUNS)/%/seed$(firstword $(SEEDS_$(MAPPED)))/space.json)

OPENED := $(filter $(OPEN_$(PRESET)),$(CHOSEN))
$(foreach row,$(OPENED),$(foreach seed,$(SEEDS_$(row)),$(eval $(call open_rules,$(row),$(seed)))))

tables: inputs $(BANKS) $(RUNS)/.tables $(foreach row,$(OPENED),$(SEEDS_$(row):%=$(RUNS)/$(row)/seed%/open.json))

$(SPACE): %/space.json: %/metrics.json notebooks/04_embedding_space.ipynb
	@echo "embedding space (04_embedding_space)"
	@$(call notebook,04_embedding_space,04_embedding_space,-p preset $(PRESET) -p experiment $(MAPPED) -p seed $(firstword $(SEEDS_$(MAPPED))))

# a file of its own: what is in git is no target, which make would delete where it is interrupted
$(RUNS)/.tables: $(METRICS) $(SPACE) notebooks/$(TABLES).ipynb $(if $(wildcard $(FIGURES)/table_mixture.json),,always)
	@echo "tables and figures ($(TABLES))"
	@$(call notebook,$(TABLES),$(TABLES),-p preset $(PRESET))
	@touch $@
