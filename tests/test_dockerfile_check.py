from __future__ import annotations

import pytest

from envbuilder import dockerfile_check
from envbuilder.errors import InvalidFileError, Source

WHOLE = """\
# comment
FROM base AS build
USER 0:0
COPY x /opt/env/
FROM base
COPY --from=build /opt/env /opt/env
copy model/ /opt/ml/model/
LABEL a=b \\
  # in between
  c="d e"
USER 1000:1000
ENTRYPOINT ["/opt/envbuilder/bin/python"]
"""


def problems(text: str) -> list[str]:
    try:
        dockerfile_check.check(
            text, copied=("/opt/env", "/opt/ml/model"), labels=("a=b", 'c="d e"'), where=Source(file="w/templates")
        )
    except InvalidFileError as caught:
        if not all(problem.where and problem.fix for problem in caught.problems):
            pytest.fail("a problem without its place or its fix")
        return [problem.what.removeprefix("the Dockerfile of these templates: ") for problem in caught.problems]
    return []


def test_a_whole_one_is_whole() -> None:
    assert problems(WHOLE) == []


def test_instructions_are_read_as_they_count() -> None:
    assert dockerfile_check.instructions("from x \n\n# no\nRUN a \\\n  b\nONBUILD") == [
        ("FROM", "x"),
        ("RUN", "a   b"),
        ("ONBUILD", ""),
    ]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("COPY --from=build /opt/env /opt/env\n", "", ["nothing is copied to `/opt/env`"]),
        ("copy model/ /opt/ml/model/\n", "", ["nothing is copied to `/opt/ml/model`"]),
        ("USER 1000:1000\n", "", ["the image would run as root"]),
        ("USER 1000:1000\n", "USER 1000\nUSER root\n", ["the image would run as root"]),
        ("USER 1000:1000\n", "USER 0:1000\n", ["the image would run as root"]),
        ('ENTRYPOINT ["/opt/envbuilder/bin/python"]\n', "", ["there is no `ENTRYPOINT` in exec form"]),
        ('["/opt/envbuilder/bin/python"]', "python -m server", ["there is no `ENTRYPOINT` in exec form"]),
        ('["/opt/envbuilder/bin/python"]', "[]", ["there is no `ENTRYPOINT` in exec form"]),
        ('["/opt/envbuilder/bin/python"]', "[1]", ["there is no `ENTRYPOINT` in exec form"]),
        ('["/opt/envbuilder/bin/python"]', '"python"', ["there is no `ENTRYPOINT` in exec form"]),
        ('c="d e"', "e=f", ["labels are missing: `c`"]),
    ],
)
def test_what_the_last_stage_lacks_is_told(old: str, new: str, what: list[str]) -> None:
    assert old in WHOLE
    assert problems(WHOLE.replace(old, new)) == what


def test_everything_is_told_at_once() -> None:
    assert problems("") == [
        "there is no `FROM`",
        "nothing is copied to `/opt/env`",
        "nothing is copied to `/opt/ml/model`",
        "the image would run as root",
        "there is no `ENTRYPOINT` in exec form",
        "labels are missing: `a`, `c`",
    ]
