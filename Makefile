# make demo: set up, estimate, sweep to CSV, validate.   make test: set up, run the tests.
PYTHON ?= python3
# On machines whose index offers CUDA builds, TORCH='torch --index-url https://download.pytorch.org/whl/cpu' is smaller.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test attack look lint bench index docs examples site wheel clean

.venv/.user: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[torch,hub]'
	$(BIN)/python -m compileall -q kvplan
	@touch $@

.venv/.developer: .venv/.user
	$(BIN)/python -m pip install --quiet --group test --group oracle --group lint --group build
	@touch $@

demo: .venv/.user
	$(BIN)/kvplan estimate llama-3.1-8b -s 8192 -b 4
	$(BIN)/kvplan sweep llama-3.1-8b gemma-3-27b -s 1k:128k:x2 -b 1,2,4,8 --kv-dtype bf16,fp8 -o report.csv
	$(BIN)/kvplan validate llama-3.1-8b -s 4096 -b 2 --device cpu

# Bytecode is kept, whatever the environment says: to compile the tests and pytest's plugins takes each of three processes seconds.
test: .venv/.developer
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q $(ARGS)

attack: .venv/.developer
	$(BIN)/python -m pytest -q -m attack tests/test_attack.py

look: .venv/.developer
	$(BIN)/python -m pytest -q -s -m look tests/report/page

lint: .venv/.developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

index: .venv/.user
	$(BIN)/python tools/make_index.py
	$(BIN)/python tools/make_parsed.py
	$(BIN)/python tools/make_listing.py
	$(BIN)/python tools/make_recorded.py

docs: .venv/.developer
	$(BIN)/python tools/make_reference.py
	$(BIN)/python tools/make_figures.py

examples: .venv/.developer
	$(BIN)/python tools/make_examples.py

site: .venv/.user
	$(BIN)/kvplan site -o site --workers 2

bench: .venv/.developer
	$(BIN)/python -m pytest -q -s -p no:xdist benchmarks --benchmark-disable-gc

wheel: .venv/.developer
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf .venv dist site report.csv .pytest_cache .mypy_cache .ruff_cache .hypothesis
