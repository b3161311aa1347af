.PHONY: demo test lint bench clean

demo: ## build, run and call examples/iris
	@.ci/setup run && .venv/bin/python examples/demo.py

test: lint ## lint, types, tests
	.venv/bin/python -m pytest

lint:
	@.ci/setup dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

bench: ## measure against MLflow's own builder, see bench/README.md
	@.ci/setup dev && .venv/bin/python bench/image.py

clean:
	rm -rf .venv
