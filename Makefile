# Thin names for what the project does. `make reproduce [PRESET=demo] [ROWS="single* mfcc"] [SEEDS="0 1"] [SET="steps=100"]`; `make help` lists the rest.
PRESET ?= $(if $(filter ablations robustness,$(MAKECMDGOALS)),surge,demo)
# the first Python 3.11 to 3.14 that runs
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
READY := .venv/.ready
# uv where it is installed: three to ten times faster than pip
INSTALL = $(if $(shell command -v uv),uv pip install --quiet --python "$(PY)","$(PY)" -m pip install --quiet --disable-pip-version-check)
REPRODUCE = "$(PY)" -m cirlib.reproduce '$(PRESET)'
CHOSEN = $(if $(ROWS),--rows '$(ROWS)') $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(SET),--set '$(SET)')
# one process for each core; the tests of a file stay together and share what is made for them
PYTEST := -m pytest -n auto --dist loadfile --no-loadscope-reorder
CHECK := $(addprefix tests/,test_structure.py test_words.py test_golden.py audio data/test_bank.py data/test_bank_files.py data/test_batches.py \
	data/test_mixtures.py data/test_pairs.py data/test_scores.py data/test_taxonomy.py evaluation/test_ranking.py models/test_heads.py \
	search/test_search_results.py training/test_config.py training/test_losses.py training/test_optimiser.py)
# threads that spin while they wait slow down other processes
export OMP_WAIT_POLICY ?= passive
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: setup reproduce bank figures performance ablations robustness clean check test coverage torture fuzz mutants reliability lint lab distclean help

reproduce: $(READY) ## sounds, rows, tables and figures of PRESET, what is up to date excepted
	@$(REPRODUCE) $(CHOSEN)
bank figures performance ablations robustness clean: $(READY) ## only that; clean deletes the runs and the bank of PRESET
	@$(REPRODUCE) $@

check: lint ## at every save: lint, structure, words and the quick tests of the core, under a minute on two cores
	"$(PY)" $(PYTEST) $(CHECK)
test: $(READY) ## the tests
	"$(PY)" $(PYTEST)
coverage: $(READY) ## the tests, and which lines of cirlib they run (slower)
	@rm -f .coverage .coverage.*
	"$(PY)" -m coverage run $(PYTEST)
	@"$(PY)" -m coverage combine --quiet && "$(PY)" -m coverage report
reliability: torture fuzz mutants ## the checks that take too long for the tests, into figures/reliability (an hour)
torture: $(READY) ## kill building, training, testing, indexing and drawing at random moments
	"$(PY)" tests/reliability/torture.py
fuzz: $(READY) ## read 10,000 mutated files, try every attack
	"$(PY)" tests/reliability/fuzz.py --inputs 10500
mutants: $(READY) ## change the code line by line: does a test fail? (SHARE=0.3: some lines)
	OMP_NUM_THREADS=1 "$(PY)" tests/reliability/mutants.py --share $(or $(SHARE),1)
lint: $(READY) ## ruff
	"$(PY)" -m ruff check . && "$(PY)" -m ruff format --check .
lab: $(READY) ## open the notebooks in JupyterLab
	"$(PY)" -m jupyter lab notebooks --ServerApp.tornado_settings="{'websocket_max_message_size': 1000000000}"

distclean: ## delete the environment and all runs; sounds in data/ and figures stay
	rm -rf .venv *.egg-info $(or $(CIRLIB_HOME),.)/runs
help: ## this list
	@awk -F':.*## ' '/^[a-z ]+:.*## /{printf "  make %s: %s\n", $$1, $$2}' Makefile
	@echo "  presets: $(notdir $(wildcard params/*)); a plan of what would run: $(PY) -m cirlib.reproduce PRESET --dry-run"
setup: $(READY) ## the Python environment in .venv

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed and none was found: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-deps -e .
	@touch $@
