.PHONY: demo test lint bench fuzz clean

demo: ## build, run and call examples/iris
	@.ci/setup run && .venv/bin/python examples/demo.py

SPREAD = --numprocesses auto --dist loadscope --no-loadscope-reorder

test: lint ## lint, types, tests, and whole branch coverage of the pure modules
	.venv/bin/python -m pytest $(SPREAD) -m "not (engine or network or process)" --cov --cov-report=
	.venv/bin/python .ci/pure_coverage.py
	.venv/bin/python -m pytest $(SPREAD) -m "engine or network or process"

lint:
	@.ci/setup dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

bench: ## measure against MLflow's own builder, see bench/README.md
	@.ci/setup dev && .venv/bin/python bench/image.py

INPUTS ?= 5000

fuzz: ## read INPUTS mutated inputs with each reader, see tests/fuzz/fuzz.py
	@.ci/setup dev && .venv/bin/python -m tests.fuzz.fuzz --inputs $(INPUTS)

clean:
	rm -rf .venv
