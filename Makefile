# make reproduce   install and run the whole paper on the embedded puppets, into runs/embedded/
# make test        install and run the tests
# make docs        build the site into docs/_build
# make publish     copy finished runs to results/, from a clean commit
# PROFILE=...      one of profiles/;  EXECUTOR=slurm  on a cluster;  LOCKED=0  the newest packages in pyproject.toml's ranges
VENV ?= .venv
PROFILE ?= embedded
CORES ?= $(shell nproc)
EXECUTOR ?= local
PYTHON ?= python3
LOCKED ?= 1
BIN := $(VENV)/bin

.PHONY: reproduce test lint docs publish lock clean

reproduce: $(VENV)/installed
	@$(BIN)/hwl reproduce $(PROFILE) --cores $(CORES) --executor $(EXECUTOR)

# A file's fixtures are made once; files with slow tests go first.
test: $(VENV)/installed
	$(BIN)/pytest -n $(CORES) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed
	$(BIN)/lint-imports
	$(BIN)/mypy hwl
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/nbstripout --verify notebooks/*.ipynb

docs: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet -e '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "The site: docs/_build/html/index.html"

publish: $(VENV)/installed
	$(BIN)/hwl publish $(PROFILE)

# The exact versions that `make` installs; those in the file stay, but for what pyproject.toml excludes.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 \
		--extra runtimes --extra slurm --extra test --extra dev --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock --quiet

$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		$(if $(filter 0,$(LOCKED)),,--constraint requirements.lock) -e '.[runtimes,slurm,test,dev]'
	touch $@

clean:
	rm -rf $(VENV) .snakemake data/puppets
