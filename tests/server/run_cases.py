"""Answers recorded requests with the worker's own code; runs in the models' environment, one line of JSON each way."""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(worker: str, models: str, contracts: str, output: int) -> None:
    spec = importlib.util.spec_from_file_location("worker", worker)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scoring = importlib.import_module(module.make_package() + ".scoring")
    loaded: dict[str, Any] = {}
    # Answers must not mix with what the models print.
    with open(output, "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            case = json.loads(line)
            name = case["model"]
            if name not in loaded:
                os.environ["ENVBUILDER_CONTRACT"] = str(Path(contracts, name + ".json"))
                loaded[name] = scoring.load(str(Path(models, name)))
            status, body = scoring.answer(loaded[name], case["content_type"], bytes.fromhex(case["body"]))
            answers.write(json.dumps({"status": status, "body": body.decode()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
