# make reproduce   install and run the whole paper on the embedded puppets
# make test        install and run the tests
# make docs        build the site into docs/_build
VENV ?= .venv
PROFILE ?= embedded
CORES ?= $(shell nproc)
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: reproduce test lint docs clean

reproduce: $(VENV)/installed
	$(BIN)/snakemake --cores $(CORES) --configfile profiles/$(PROFILE).yaml --quiet host --rerun-incomplete
	@echo "The report: results/$(PROFILE)/index.html"

test: $(VENV)/installed
	$(BIN)/pytest

lint: $(VENV)/installed
	$(BIN)/lint-imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/nbstripout --verify notebooks/*.ipynb

docs: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet -e '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "The site: docs/_build/html/index.html"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[runtimes,test,dev]'
	touch $@

clean:
	rm -rf $(VENV) .snakemake data/puppets
