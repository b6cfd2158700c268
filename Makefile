# make train   installs into .venv, trains the default preset on scikit-image's photographs, writes a report
# make restore PHOTO=photo.jpg installs into .venv and restores a photograph with the bundled network
# make compare fine-tunes the bundled network with each of three losses, tests on eight pictures, and writes a report
# make study   shows results of two networks of make compare in the browser, and records which ones people prefer;
#              make study PHOTOGRAPHS=folder shows your photographs: ten or more are needed for a verdict
# make docs    builds the documentation into build/docs, with warnings as errors
# make notebooks writes colab/*.ipynb from the .py beside them
# make test    the fast tests (with doctests), compiled with few optimizations; make lint is what CI runs first
# make test-slow the slow tests, compiled as users compile them; make test-all runs both kinds so
# make fuzz    gives each reader of files 200 damaged ones, or as many as FUZZ_CASES says
# make test-lowest some light tests and a training at the lowest versions that pyproject.toml allows, Python 3.11
# make test-newest fewer of these tests, a training and an export with the newest Python here and the newest versions
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .cache/lowest
NEWEST := .cache/newest

.PHONY: train restore compare study docs notebooks test test-slow test-all fuzz test-lowest test-newest test-newest-with lint format clean
# Larger pages for the memory that XLA allocates in each step (docs/costs.md). Only glibc reads this.
HUGE_PAGES := GLIBC_TUNABLES=glibc.malloc.hugetlb=1
train: $(VENV)/.train
	$(HUGE_PAGES) $(BIN)/python -m train fit

restore: $(VENV)/.train
	@test -n "$(PHOTO)" || { echo "Name a photograph: make restore PHOTO=photo.jpg"; exit 1; }
	$(BIN)/python -m train restore "$(PHOTO)"

compare: $(VENV)/.compare
	$(HUGE_PAGES) $(BIN)/python -m train compare

COMPARISON ?= $(lastword $(sort $(wildcard runs/*-compare)))
STUDY = $(COMPARISON)/study
study: $(VENV)/.study
	@test -n "$(COMPARISON)" || { echo "There is no comparison yet: make compare"; exit 1; }
	@test ! -e "$(STUDY)/study.sqlite" || test -z "$(PHOTOGRAPHS)" || { \
		echo "$(STUDY) exists already. To continue it, leave PHOTOGRAPHS out. For a new study, move it away."; exit 1; }
	test -e "$(STUDY)/study.sqlite" || $(BIN)/python -m train study create "$(STUDY)" --comparison "$(COMPARISON)" \
		$(if $(PHOTOGRAPHS),--clean "$(PHOTOGRAPHS)")
	@echo "When you have voted: $(BIN)/python -m train study score $(STUDY)"
	$(BIN)/python -m train study serve "$(STUDY)"

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -b html -n -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

notebooks: $(VENV)/.dev
	$(BIN)/jupytext --quiet --to ipynb --update colab/0*.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not fuzz"

OPTIMIZED := JAX_DISABLE_MOST_OPTIMIZATIONS=0
test-slow: $(VENV)/.dev
	$(OPTIMIZED) $(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not fuzz"

test-all: $(VENV)/.dev
	$(OPTIMIZED) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not fuzz"

fuzz: $(VENV)/.dev
	FUZZ_CASES=$${FUZZ_CASES:-200} $(BIN)/python -m pytest -n 2 -m "fuzz and not slow" tests

# The tests of what `import lumloss_jax` gives that transform, compile and check. Those that compare numbers
# with other libraries show the same at any version of JAX.
CORE := $(patsubst %,tests/lumloss_jax/%.py, losses/test_every_loss losses/test_luminance_transforms \
	metrics/test_every_metric metrics/test_bad_input $(addprefix test_,checks means filters light_import))
LIGHT := $(CORE) $(patsubst %,tests/lumloss_jax/%.py, \
	$(addprefix losses/test_,luminance_errors composition balancing_dwa balancing_gradnorm balancing_uncertainty \
		adversarial spec gt_mean perceptual) $(addprefix color/test_,every_color weighted_sum) \
	$(addprefix degradations/test_,contract composition))
# jaxlib 0.7.2 on a CPU adds up a mean one by one: 0.1005 is off by 6e-5 of it where 1e-5 is asked for, and
# the last two by 1.0e-5 and 1.2e-5.
LOWEST_ROUNDING := $(patsubst %,--deselect "tests/lumloss_jax/%", \
	metrics/test_every_metric.py::test_constant_shift[mae] metrics/test_every_metric.py::test_constant_shift[mse] \
	metrics/test_every_metric.py::test_constant_shift[psnr] \
	losses/test_every_loss.py::test_constant_shift[l1] losses/test_every_loss.py::test_constant_shift[mse] \
	losses/test_every_loss.py::test_constant_shift[charbonnier] \
	losses/test_every_loss.py::test_constant_shift[composition] \
	losses/test_every_loss.py::test_vmap_and_shards_agree_with_jit[gt_mean_l1] \
	losses/test_every_loss.py::test_axis_name_gives_the_value_of_all_shards[laplacian] \
	losses/test_every_loss.py::test_axis_name_gives_the_value_of_all_shards[cidnet])
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" $(LIGHT) $(LOWEST_ROUNDING)
	run=$$(mktemp -d) && JAX_PLATFORMS=cpu $(LOWEST)/bin/python -m train fit smoke --out $$run/smoke && rm -r $$run

# Only the tests of every loss and metric, because CI waits for them. The whole suite is run by hand.
# Each candidate is run, because a shim of pyenv may be there and fail.
NEWEST_PYTHON = $(shell for v in 3.14 3.13 3.12; do \
	for c in python$$v "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$v*/bin/python$$v; do \
	"$$c" -c 'import sqlite3, ssl, venv' 2>/dev/null && { command -v "$$c"; exit; }; done; done)
test-newest:
	@python="$(NEWEST_PYTHON)"; if [ -z "$$python" ]; then \
		echo "python3.14, python3.13 and python3.12 are missing here, or do not work: the newest versions are not tested"; \
	else $(MAKE) --no-print-directory test-newest-with "PYTHON=$$python"; fi

test-newest-with:
	rm -rf $(NEWEST)
	"$(PYTHON)" -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[train]" dm-pix hypothesis pytest pytest-xdist
	$(OPTIMIZED) $(NEWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" $(CORE)
	run=$$(mktemp -d) && export JAX_PLATFORMS=cpu && $(NEWEST)/bin/python -m train fit smoke --out $$run/smoke && \
		$(NEWEST)/bin/python -m train export $$run/smoke --format stablehlo --output $$run/smoke.stablehlo && rm -r $$run

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp for each extra: installed again only when pyproject.toml changes.
$(VENV)/.train: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train]"
	touch $@

$(VENV)/.compare: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[compare]"
	touch $@ $(VENV)/.train

$(VENV)/.study: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[study,compare]"
	touch $@ $(VENV)/.train $(VENV)/.compare

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@ $(VENV)/.train $(VENV)/.compare $(VENV)/.study $(VENV)/.docs

# Python 3.11 where it is: for newer ones the lowest versions have no wheels.
$(LOWEST)/.installed: pyproject.toml tests/lowest-versions.txt
	rm -rf $(LOWEST)
	$(or $(shell command -v python3.11),$(PYTHON)) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c tests/lowest-versions.txt -e ".[train]" \
		dm-pix hypothesis pytest pytest-xdist
	touch $@

clean:
	rm -rf $(VENV) .cache dist build
