"""Asks models through a worker's code; runs in the models' environment, a line of JSON each way for each model.

Each model is loaded in a child, which gets the imported libraries with the fork.
"""

import importlib
import importlib.util
import json
import os
import sys
from typing import Any


def main(worker: str) -> None:
    spec = importlib.util.spec_from_file_location("worker", worker)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scoring = importlib.import_module(module.make_package() + ".scoring")
    for library in ("pandas", "sklearn.linear_model", "sklearn.compose"):
        importlib.import_module(library)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            job = json.loads(line)
            os.environ.update(job["environment"])
            sys.stdout.write(json.dumps(answers(scoring, job["model"], job["asked"])) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


def answers(scoring: Any, model_dir: str, asked: list[Any]) -> dict[str, Any]:  # noqa: ANN401 - the worker's
    model = scoring.load(model_dir)
    calls: list[int] = []
    count(model, calls)
    found = []
    for requests in asked:
        calls.clear()
        pairs = [(content_type, body.encode()) for content_type, body in requests]
        given = [[status, json.loads(body)] for status, body in scoring.answer_all(model, pairs)]
        found.append({"answers": given, "rows": list(calls)})
    return {"direct": model.direct is not None, "row_wise": model.is_row_wise, "asked": found}


def count(model: Any, calls: list[int]) -> None:  # noqa: ANN401 - the worker's
    """Note how many rows each prediction has."""
    predict = model.predict

    def counted(data: Any, params: Any) -> Any:  # noqa: ANN401
        calls.append(len(data))
        return predict(data, params)

    model.predict = counted
    if model.direct is not None:
        call = model.direct.call

        def direct(rows: Any) -> Any:  # noqa: ANN401
            calls.append(len(rows))
            return call(rows)

        model.direct = model.direct._replace(call=direct)


if __name__ == "__main__":
    main(sys.argv[1])
