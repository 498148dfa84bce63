# Two commands for a newcomer: `make demo` and `make test`.  Both make what they need in .venv first.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: demo test benchmarks lint clean

$(BIN)/ctperfusion: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dicom]"
	@touch $@

$(VENV)/test-ready: $(BIN)/ctperfusion
	$(BIN)/python -m pip install --quiet --editable ".[dicom,test]"
	@touch $@

demo: $(BIN)/ctperfusion
	$(BIN)/python Testing/demo.py demo

test: $(VENV)/test-ready
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

benchmarks: $(VENV)/test-ready
	$(BIN)/python Testing/Benchmarks/run_all.py

clean:
	rm -rf $(VENV) demo
