# make study   install, run the default study, write its report (another one: make study STUDY=studies/landscapes.toml)
#              with TORCH=cpu: with PyTorch for the CPU alone, a small part of the usual size
# make test    install, run the tests
# make test-min  run the core tests with the lowest versions that pyproject.toml allows (in another environment)
# make stress  many workers, load and faults, on SQLite and PostgreSQL (a quarter of an hour)
# make atlas   the studies of studies/atlas (name some: make atlas ATLAS='digits wells') and their table: hours; it continues
# make lint    ruff and mypy
# make install install all that tests, lint and the documentation need
# make docs    the guide and the API reference, in build/docs
# make clean   remove what was built here; databases and reports stay

PYTHON ?= python3
STUDY ?=
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
CORE := $(addprefix tests/,optim problems training testing store study analysis theory cli util test_random.py)
# uv, where it is installed, needs a fifth of pip's time.
UV ?= $(shell command -v uv)
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# Only uv finds the builds of PyTorch by their names.
INSTALL := $(if $(UV)$(TORCH),$(or $(UV),$(BIN)/uv) pip install -q --python $(BIN)/python,$(PIP) install)
INSTALL += $(if $(TORCH),--torch-backend $(TORCH))

MEMORY := $(shell df -k --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 8000000 {print "/dev/shm"}')

.DEFAULT_GOAL := study
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: study install test test-min stress atlas lint docs clean

study: $(VENV)/.base
	@$(BIN)/python -m relaxbench study $(STUDY)

install: $(VENV)/.test

# Three processes keep two cores busy while some tests wait; see LONGEST in tests/conftest.py. Databases lie in memory where 8 GB of it are free: SQLite and
# PostgreSQL then never wait for a disk.
test: $(VENV)/.test
	@$(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder
	@$(if $(MEMORY),rm -rf $(MEMORY)/pytest-of-$$(id -un))

# Without Ray, Lightning and optuna-dashboard. Old versions may warn of what newer ones deprecate: here a warning is not an error.
test-min: $(VENV)-min/.test
	@$(VENV)-min/bin/python -m pytest -q -n 2 --dist loadfile -W default -o cache_dir=$(VENV)-min/.pytest_cache \
	  --ignore tests/optim/drop_in/test_lightning.py --ignore tests/study/execution/test_ray_worker.py \
	  --deselect tests/cli/test_report.py::test_the_dashboard_is_served_up_to_ctrl_c $(CORE)

stress: $(VENV)/.test
	@$(BIN)/python -m relaxbench stress

# A study has a database of its own in build/atlas; those named in AGAIN are run with a second seed, too. The last ones
# read MNIST from RELAXBENCH_DATA.
ATLAS ?= digits linear-net rosenbrock tabular wells mnist-tanh lenet
AGAIN ?= digits linear-net rosenbrock tabular lenet
atlas: $(VENV)/.base
	@mkdir -p build/atlas
	@set -e; for name in $(ATLAS); do \
	  $(BIN)/python -m relaxbench study studies/atlas/$$name.toml --storage build/atlas/$$name.db --report build/atlas; \
	done
	@set -e; for name in $(AGAIN); do \
	  if [ $$name = digits ]; then budget="--budget 600"; else budget=; fi; \
	  $(BIN)/python -m relaxbench study studies/atlas/$$name.toml --seed 1 $$budget --name atlas-$$name-seed1 \
	    --storage build/atlas/$$name-1.db --report build/atlas; \
	done
	@$(BIN)/python -m relaxbench atlas build/atlas --out reports/atlas

lint: $(VENV)/.test
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet .
	@$(BIN)/python -m mypy --strict --no-error-summary relaxbench

docs: $(VENV)/.test
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean:
	@rm -rf $(VENV) $(VENV)-min build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# Both stamps are renewed when what is to be installed changes; what is there already is not fetched again.
$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing relaxbench into $(VENV) (PyTorch is large: minutes, the first time) ..."
	@$(if $(TORCH),$(if $(UV),,$(PIP) install -c constraints.txt uv))
	@$(INSTALL) -c constraints.txt -e '.[study]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing relaxbench and its test tools into $(VENV) (PyTorch is large: minutes, the first time) ..."
	@$(INSTALL) -c constraints.txt -e '.[test]'
	@touch $(VENV)/.base $@

$(VENV)-min/.test: pyproject.toml constraints-min.txt
	@echo "Installing the lowest versions into $(VENV)-min (PyTorch is large: minutes, the first time) ..."
	@$(PYTHON) -m venv $(VENV)-min
	@$(VENV)-min/bin/python -m pip --disable-pip-version-check -qq install -c constraints-min.txt -e '.[study,postgres,grpc]' \
	  axe-playwright-python curvlinops-for-pytorch hypothesis packaging playwright pytest pytest-xdist
	@touch $@

# An environment whose Python is gone (moved, upgraded) is made anew.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && echo works),works)
.PHONY: $(VENV)/.made $(VENV)/.base $(VENV)/.test
endif

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "relaxbench needs Python 3.11 or newer, and there is no '$(PYTHON)' here. Name yours: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "relaxbench needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON)' cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@touch $@
