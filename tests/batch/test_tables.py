"""Batch runs over tables, by the real command and a real worker, against what the model itself says."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest

from tests.batch.scored import Scorer

pytestmark = [pytest.mark.process, pytest.mark.network]

EXPECTED = """
import sys
sys.path.insert(0, sys.argv[1])
import json
from pathlib import Path
import mlflow
from make_models import patients

model, folder = mlflow.pyfunc.load_model(sys.argv[2]), Path(sys.argv[3])
told = {}
for number in range(3):
    rows = patients(1000 + number, seed=number)
    (folder / "csv/deep").mkdir(parents=True, exist_ok=True)
    (folder / "parquet").mkdir(exist_ok=True)
    (folder / "jsonl").mkdir(exist_ok=True)
    name = f"deep/heart-{number}" if number == 2 else f"heart-{number}"
    rows.to_csv(folder / "csv" / f"{name}.csv", index=False)
    rows.to_parquet(folder / "parquet" / f"{name.rpartition('/')[2]}.parquet", row_group_size=300)
    rows.to_json(folder / "jsonl" / f"{name.rpartition('/')[2]}.jsonl", orient="records", lines=True)
    told[name.rpartition("/")[2]] = model.predict(rows).tolist()
print(json.dumps(told))
"""


@pytest.fixture(scope="session")
def patients(
    batch_models: Path, batch_python: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[int]]]:
    """Folders of csv, parquet and json lines, and what the model predicts for each file."""
    folder = tmp_path_factory.mktemp("patients")
    command = (batch_python, "-c", EXPECTED, Path(__file__).parent, batch_models / "heart", folder)
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder).stdout
    return folder, json.loads(told)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_gets_one_prediction_for_each_row(
    form: str,
    workers: str,
    patients: tuple[Path, dict[str, list[int]]],
    batch_models: Path,
    batch_python: str,
    tmp_path: Path,
) -> None:
    folder, expected = patients
    score = Scorer(batch_models / "heart", batch_python, tmp_path)
    output = tmp_path / "out.csv"
    summary = score("-i", folder / form, "-o", output, "--batch-rows", "128", "--workers", workers).summary()
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["row", "prediction", "file_name"]
    found: dict[str, list[int]] = {}
    for row in rows:
        values = found.setdefault(row["file_name"].rpartition("/")[2].partition(".")[0], [])
        assert int(row["row"]) == len(values)
        values.append(int(row["prediction"]))
    assert found == expected
    assert (summary["rows"], summary["failed"], summary["files"]) == (3003, 0, 3)
    assert not (tmp_path / "out.csv.parts").exists()


def rows_of(output: Path) -> dict[str, list[tuple[int, str]]]:
    """Return row and prediction by file of a csv output."""
    found: dict[str, list[tuple[int, str]]] = {}
    with output.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["file_name"], []).append((int(row["row"]), row["prediction"]))
    return found


def numbers(path: Path, values: list[object], column: str = "x") -> Path:
    path.write_text("".join(f"{value}\n" for value in [column, *values]))
    return path


@pytest.fixture
def moody(batch_models: Path, batch_python: str, tmp_path: Path) -> Scorer:
    return Scorer(batch_models / "moody", batch_python, tmp_path)


@pytest.mark.parametrize("count", [2, 5])
def test_shards_share_the_work_and_come_to_the_same(
    count: int, patients: tuple[Path, dict[str, list[int]]], batch_models: Path, batch_python: str, tmp_path: Path
) -> None:
    folder, expected = patients
    score = Scorer(batch_models / "heart", batch_python, tmp_path)
    found: dict[str, list[tuple[int, str]]] = {}
    for index in range(count):
        shard = ("--shard", f"{index}/{count}") if index else ("--shard", str(count))
        score(
            *("-i", folder / "csv", "-o", tmp_path / "out.csv", "--batch-rows", "150", *shard),
            JOB_COMPLETION_INDEX="0",
        ).summary()
        for name, rows in rows_of(tmp_path / f"out-{index:05}-of-{count:05}.csv").items():
            found.setdefault(name, []).extend(rows)
    assert {
        name.rpartition("/")[2].partition(".")[0]: [int(value) for _, value in sorted(rows)]
        for name, rows in found.items()
    } == expected


def test_rows_that_fail_are_named_and_cost_themselves_only(moody: Scorer, tmp_path: Path) -> None:
    values = [*range(13), "", "many", *range(20, 30), 13, "1_000", 99999999999999999999, 31]
    numbers(tmp_path / "in.csv", values)
    (tmp_path / "in.csv").write_text((tmp_path / "in.csv").read_text().replace("\n\n", '\n""\n'))
    refused = moody("-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--error-threshold", "4")
    assert refused.code == 3
    assert "error: 5 rows failed, and the error threshold is 4" in refused.log
    assert "  in.csv, row 13, column `x`: nothing where a long is expected\n" in refused.log
    again = moody("-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--error-threshold", "4")
    assert (again.code, "error: 5 rows failed" in again.log) == (3, True)
    assert not (tmp_path / "out.csv").exists()
    summary = moody("-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--error-threshold", "5").summary()
    assert (summary["rows"], summary["failed"], summary["failures"]) == (24, 5, "out.csv.failures.jsonl")
    failures = [json.loads(line) for line in (tmp_path / "out.csv.failures.jsonl").read_text().splitlines()]
    assert [(one["row"], one.get("column"), one["what"]) for one in failures] == [
        (13, "x", "nothing where a long is expected"),
        (14, "x", "a text where a long is expected"),
        (25, None, "ArithmeticError: 13 is not to be doubled"),
        (26, "x", "a text where a long is expected"),
        (27, "x", "a text where a long is expected"),
    ]
    good = [
        (row, value) for row, value in enumerate(values) if isinstance(value, int) and value not in (13, values[27])
    ]
    assert rows_of(tmp_path / "out.csv") == {"in.csv": [(row, str(2 * value)) for row, value in good]}


def test_a_worker_that_ends_or_hangs_is_replaced_and_costs_its_mini_batch_only(moody: Scorer, tmp_path: Path) -> None:
    numbers(tmp_path / "in.csv", [0, 1, 14, 2, 15, 3, 4, 5, 16, 6, 17, 7])
    ended = moody(
        *("-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--batch-rows", "2", "--error-threshold", "-1"),
        *("--retries", "1", "--timeout", "2"),
        MOODY_FILE=str(tmp_path / "once"),
    )
    assert (ended.summary()["rows"], ended.summary()["failed"]) == (6, 6)
    failures = [json.loads(line) for line in (tmp_path / "out.csv.failures.jsonl").read_text().splitlines()]
    assert [(one["row"], one["rows"], one["what"]) for one in failures] == [
        (2, 2, "the worker exited with code 3 while it answered the request (2 tries)"),
        (8, 2, "it took longer than 2 s (2 tries)"),
        (10, 2, "the model returned 1 predictions for 2 rows"),
    ]
    assert [row for row, _ in rows_of(tmp_path / "out.csv")["in.csv"]] == [0, 1, 4, 5, 6, 7]
    assert "it is tried again (1 of 1)" in ended.log


def test_the_same_run_again_has_nothing_to_do_and_another_is_refused(moody: Scorer, tmp_path: Path) -> None:
    source, output = numbers(tmp_path / "in.csv", list(range(10))), tmp_path / "out.csv"
    first = moody("-i", source, "-o", output, "--params", '{"factor": 3}').summary()
    before = output.stat()
    assert moody("-i", source, "-o", output, "--params", '{"factor": 3}').summary() == first
    assert output.stat().st_ino == before.st_ino
    assert rows_of(output)["in.csv"][9] == (9, "27")
    other = moody("-i", source, "-o", output)
    assert (other.code, "exists, and is not the output of this run" in other.log) == (2, True)
    assert output.stat().st_ino == before.st_ino


def test_parts_of_another_run_are_not_taken(moody: Scorer, tmp_path: Path) -> None:
    source, output = numbers(tmp_path / "in.csv", [1, "x", 2]), tmp_path / "out.csv"
    assert moody("-i", source, "-o", output).code == 3
    numbers(source, [1, 3, 2, 5])
    refused = moody("-i", source, "-o", output)
    assert (refused.code, "holds the parts of another run" in refused.log) == (2, True)


READ = """
import sys, json, pandas as pd
frame = pd.read_parquet(sys.argv[1])
print(json.dumps([frame.dtypes.astype(str).to_dict(), frame.to_dict(orient="list")]))
"""


def test_several_columns_stay_columns_and_lists_stay_lists(
    batch_models: Path, batch_python: str, tmp_path: Path
) -> None:
    source = numbers(tmp_path / "in.csv", [1, 2.5, "inf"])
    pair, nested = (Scorer(batch_models / name, batch_python, tmp_path) for name in ("pair", "nested"))
    pair("-i", source, "-o", tmp_path / "pair.csv", "--batch-rows", "2").summary()
    assert (tmp_path / "pair.csv").read_text() == (
        "row,prediction.half,prediction.what,file_name\n"
        '0,0.5,"é,1.0",in.csv\n1,1.25,"é,2.5",in.csv\n2,,"é,inf",in.csv\n'
    )
    nested("-i", source, "-o", tmp_path / "nested.csv").summary()
    assert (tmp_path / "nested.csv").read_text().splitlines()[1:] == [
        '0,"[1.0, null]",in.csv',
        '1,"[2.5, null]",in.csv',
        '2,"[null, null]",in.csv',
    ]
    nested("-i", source, "-o", tmp_path / "nested.jsonl", "--batch-rows", "1").summary()
    assert [json.loads(line) for line in (tmp_path / "nested.jsonl").read_text().splitlines()] == [
        {"row": row, "prediction": value, "file_name": "in.csv"}
        for row, value in enumerate([[1.0, None], [2.5, None], [None, None]])
    ]
    pair("-i", source, "-o", tmp_path / "pair.parquet", "--batch-rows", "2").summary()
    told = subprocess.run((batch_python, "-c", READ, tmp_path / "pair.parquet"), check=True, stdout=subprocess.PIPE)
    dtypes, columns = json.loads(told.stdout)
    assert (dtypes["row"], dtypes["prediction.half"]) == ("int64", "float64")
    assert columns["prediction.half"] == [0.5, 1.25, float("inf")]
    assert columns["file_name"] == ["in.csv"] * 3
    nested("-i", source, "-o", tmp_path / "nested.parquet", "--batch-rows", "1").summary()
    told = subprocess.run(
        (
            batch_python,
            "-c",
            READ.replace("print", "frame.prediction = frame.prediction.map(list); print"),
            tmp_path / "nested.parquet",
        ),
        check=True,
        stdout=subprocess.PIPE,
    )
    assert json.loads(told.stdout)[1]["prediction"][1][0] == 2.5


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_no_rows_are_an_output_without_rows(moody: Scorer, suffix: str, tmp_path: Path) -> None:
    summary = moody("-i", numbers(tmp_path / "in.csv", []), "-o", tmp_path / f"out{suffix}").summary()
    assert summary["rows"] == 0
    assert (tmp_path / f"out{suffix}").exists()


def test_what_is_wrong_with_the_inputs_is_told_at_once(moody: Scorer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.avro").touch()
    (folder / "_SUCCESS").touch()
    numbers(folder / "deep/a.csv", [1], column="y")
    refused = moody("-i", folder, "-i", tmp_path / "none", "-o", tmp_path / "out.csv")
    assert refused.code == 2
    assert "a.avro` is of no kind that is read: .csv, " in refused.log
    assert "none` does not exist" in refused.log
    assert "_SUCCESS" not in refused.log
    failed = moody("-i", folder / "deep", "-o", tmp_path / "out.csv")
    assert failed.code == 3
    assert "a.csv, row 0: the file has no column `x` (long)" in failed.log


def test_options_that_cannot_be_are_told_together(moody: Scorer, tmp_path: Path) -> None:
    refused = moody("-i", tmp_path, "--workers", "0", "--batch-rows", "0", "--shard", "4/4", "--params", "3")
    assert refused.code == 2
    assert refused.log.splitlines() == [
        "error: --workers is `0`, expected at least 1",
        "error: --batch-rows is `0`, expected at least 1",
        "error: -i and -o are both needed",
        "error: --params is no JSON object",
        "error: --shard: `4/4` is no shard of 4: they are 0 to 3",
    ]
    ended = moody("-i", numbers(tmp_path / "in.csv", [1]), "-o", tmp_path / "out.txt")
    assert (ended.code, ended.log) == (
        2,
        f"error: the output `{tmp_path}/out.txt` must end in .csv, .jsonl, .parquet\n",
    )


def test_a_model_that_does_not_load_ends_the_run(batch_python: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {python_function: {loader_module: absent_module}}\n")
    ended = Scorer(model, batch_python, tmp_path)("-i", numbers(tmp_path / "in.csv", [1]), "-o", tmp_path / "out.csv")
    assert ended.code == 1
    assert "the model does not load" in ended.log
    assert "absent_module" in ended.log
