from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder import smoke
from envbuilder.errors import SmokeTestFailedError
from envbuilder.server.trial import Report
from tests.strategies import YAML_VALUES

LOG = tuple(f"line {number}" for number in range(30))


def printed(report: Report) -> bytes:
    return f"a print of the model\n{report.to_text()}\n".encode()


@given(YAML_VALUES, st.floats(0, 100))
def test_an_answer_reads_back_as_the_trial_gave_it(answer: object, seconds: float) -> None:
    report = Report(ready=True, startup_seconds=seconds, example="answered", predict_seconds=seconds, answer=answer)
    found = smoke.read(printed(report), LOG, model="models/churn")
    assert (found.example, found.answer) == ("answered", answer)
    assert (found.startup_seconds, found.predict_seconds) == (seconds, seconds)
    json.dumps(found.to_dict())


def test_a_model_without_an_example_passes_when_it_starts() -> None:
    found = smoke.read(printed(Report(ready=True, startup_seconds=1.23456)), LOG, model="m")
    assert found.to_dict() == {
        "example": "none",
        "startup_seconds": 1.235,
        "predict_seconds": None,
        "answer": None,
    }


def test_seconds_are_rounded_for_people() -> None:
    report = Report(ready=True, example="answered", predict_seconds=0.123456, answer=[1])
    assert smoke.read(printed(report), LOG, model="m").to_dict()["predict_seconds"] == 0.1235


def test_the_last_object_counts() -> None:
    output = b'{"ready": false}\n{broken\n' + printed(Report(ready=True)) + b'{"broken\nnot an object\n'
    assert smoke.read(output, LOG, model="m").example == "none"


@pytest.mark.parametrize("output", [b"", b"Killed\n", b"{\n", b"\xff\xfe"], ids=["nothing", "text", "cut", "binary"])
def test_an_image_that_reports_nothing_failed_with_its_log(output: bytes) -> None:
    with pytest.raises(SmokeTestFailedError) as raised:
        smoke.read(output, LOG, model="models/churn")
    assert str(raised.value) == (
        "the image did not get as far as reporting how it did\n"
        + "".join(f"    line {number}\n" for number in range(10, 30))
        + "  at models/churn\n  fix: read the log above; `--no-smoke` builds without trying"
    )


TRACE = [
    "Traceback (most recent call last):",
    '  File "/opt/envbuilder/lib/python3.11/site-packages/envbuilder/server/scoring.py", line 3, in score',
    "    return model.predict(rows)",
    '  File "/opt/ml/model/code/churn.py", line 7, in predict',
    "    return self.weights[column]",
    "           ~~~~~~~~~~~~^^^^^^^^",
    "KeyError: 'age'",
]


@pytest.mark.parametrize(
    ("report", "what"),
    [
        (Report(error={"what": "no module `x`"}), "did not start: no module `x`\n    line 10\n"),
        (Report(ready=True, example="failed", error={"what": "bad"}), "did not answer its own input example: bad\n"),
        (Report(ready=True, example="failed"), "did not answer its own input example: no reason given\n    line 10"),
        (Report(ready=True, example="new word"), "did not answer its own input example: no reason given"),
    ],
    ids=["no start", "bad answer", "no reason", "unknown word"],
)
def test_a_failure_tells_the_step_and_the_models_own_error(report: Report, what: str) -> None:
    with pytest.raises(SmokeTestFailedError) as raised:
        smoke.read(printed(report), LOG, model="m")
    (problem,) = raised.value.problems
    assert problem.what.startswith(f"the image {what}")
    assert problem.fix == "mend the model or its environment; `--no-smoke` builds without trying"


def test_a_trace_shows_the_models_lines_without_the_servers() -> None:
    report = Report(ready=True, example="failed", error={"what": "KeyError: 'age'", "trace": TRACE})
    with pytest.raises(SmokeTestFailedError) as raised:
        smoke.read(printed(report), LOG, model="m")
    (problem,) = raised.value.problems
    assert problem.what == (
        "the image did not answer its own input example: KeyError: 'age'\n"
        '    File "/opt/ml/model/code/churn.py", line 7, in predict\n'
        "    return self.weights[column]"
    )


def test_no_more_than_the_last_lines_of_a_trace_are_shown() -> None:
    trace = [f'  File "/opt/ml/model/code/deep.py", line {number}, in call' for number in range(30)]
    with pytest.raises(SmokeTestFailedError) as raised:
        smoke.read(printed(Report(error={"what": "w", "trace": trace})), (), model="m")
    assert "line 10," in raised.value.problems[0].what
    assert "line 9," not in raised.value.problems[0].what
