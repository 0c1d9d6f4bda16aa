# make demo: the paper's ablation on handwritten digits. make test: lint, types, tests. make tables: render all that is
# committed from tables/runs. make chaos: the long reliability run (CHAOS="--seed 1 kills" for a part of it). Each sets
# up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test tables chaos clean

demo: .venv/ready
	$(BIN)/ltrepro demo

test: export PYTHONDONTWRITEBYTECODE =# else each of its many processes compiles every file again
test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

tables: .venv/ready
	$(BIN)/ltrepro tables > .venv/rendered
	git ls-files tables figures ':!tables/runs' ':!tables/rendered.json' | grep -vxFf .venv/rendered | xargs rm -f

chaos: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

clean:
	rm -rf .venv demo build dist
