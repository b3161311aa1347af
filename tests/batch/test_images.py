"""Batch runs over images: each file is one row of the signature's tensor."""

from __future__ import annotations

import csv
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.batch.scored import Scorer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.network]

DRAW = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image

folder = Path(sys.argv[1])
(folder / "deep").mkdir(parents=True)
for number, name in enumerate(["a.png", "b.jpg", "deep/c.bmp", "d.tiff", "e.gif"]):
    Image.fromarray(np.full((300, 300, 3), number * 50, np.uint8)).save(folder / name)
Image.fromarray(np.full((300, 300), 255, np.uint8)).save(folder / "grey.png")
Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(folder / "small.png")
(folder / "text.png").write_text("no image")
"""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_image_gets_its_prediction(suffix: str, batch_models: Path, batch_python: str, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / f"out{suffix}"
    subprocess.run((batch_python, "-c", DRAW, folder), check=True)
    score = Scorer(batch_models / "pictures", batch_python, tmp_path)
    arguments = ("-i", folder, "-o", output, "--batch-files", "3", "--error-threshold", "2")
    summary = score(*arguments).summary()
    assert (summary["rows"], summary["failed"], summary["files"]) == (6, 2, 8)
    failures = [json.loads(line) for line in (tmp_path / f"out{suffix}.failures.jsonl").read_text().splitlines()]
    assert failures == [
        {"file_name": "small.png", "what": "the image is (200, 300, 3), the signature asks for (300, 300, 3)"},
        {"file_name": "text.png", "what": "not an image that can be read: UnidentifiedImageError"},
    ]
    found = {}
    if suffix == ".parquet":
        script = (
            "import sys, pandas as pd; f = pd.read_parquet(sys.argv[1]); print(f.to_json(orient='records', lines=True))"
        )
        told = subprocess.run((batch_python, "-c", script, output), check=True, stdout=subprocess.PIPE).stdout
        rows = [json.loads(line) for line in told.splitlines() if line]
    elif suffix == ".csv":
        with output.open(newline="") as stream:
            rows = [{**row, "prediction": json.loads(row["prediction"])} for row in csv.DictReader(stream)]
    else:
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert list(rows[0]) == ["prediction", "file_name"]
    found = {row["file_name"]: row["prediction"][0] for row in rows}
    assert list(found) == ["a.png", "b.jpg", "d.tiff", "deep/c.bmp", "e.gif", "grey.png"]
    wanted = [0, 50, 150, 100, 200, 255]
    assert all(abs(value * 255 - want) < 2 for value, want in zip(found.values(), wanted, strict=True))


def test_images_and_tables_are_not_mixed(batch_models: Path, batch_python: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").touch()
    (tmp_path / "in/b.csv").touch()
    refused = Scorer(batch_models / "pictures", batch_python, tmp_path)("-i", tmp_path / "in", "-o", tmp_path / "o.csv")
    assert (refused.code, "the inputs mix images and tables" in refused.log) == (2, True)


def test_a_model_of_columns_takes_no_images(batch_models: Path, batch_python: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").touch()
    refused = Scorer(batch_models / "pair", batch_python, tmp_path)("-i", tmp_path / "in", "-o", tmp_path / "o.csv")
    assert refused.code == 3
    assert "a.png: the model's signature asks for columns or for several tensors, not for images" in refused.log
