# make wheel      the sdist and one wheel for Python 3.11 and later into dist/, tested
#                 (MACHINE=aarch64 TEST_PYTHONS= cross-builds one for 64-bit Arm)
# make test       the tests, in the environment that is active
# make lint       check style and types
# make format     write Python and C sources anew in the project's style
# make docs      the web site, into build/docs (pip install -e ".[docs]")
# make cross     compile every C file for Windows, macOS and Arm (pip install ziglang)
# make bench      the benchmark (pip install -e ".[bench]" for the libraries to compare with)
# make clean      remove everything that was built or cached

PYTHON ?= python3
# Interpreters that `make wheel` tests the wheel with, for instance "python3.11 python3.13".
TEST_PYTHONS ?= $(PYTHON)

.PHONY: wheel test lint format docs cross bench clean

wheel:
	PYTHON=$(PYTHON) scripts/build_wheel.sh
	set -e; for python in $(TEST_PYTHONS); do PYTHON=$$python scripts/test_wheel.sh; done

test:
	$(PYTHON) -m pytest

lint:
	scripts/lint.sh

format:
	ruff format .
	clang-format -i src/fastconv/_kernels/*.[ch]

docs:
	$(PYTHON) -m sphinx -b html -W --keep-going docs build/docs

cross:
	$(PYTHON) scripts/cross_compile.py

bench:
	$(PYTHON) -m bench

clean:
	rm -rf build dist docs/gallery docs/reference docs/measurements.csv src/*.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f src/fastconv/_kernels/*.so
	find src tests bench scripts -name __pycache__ -exec rm -rf {} +
