"""Writes the tables of `api/samples/` from scikit-learn's own: `python examples/make_samples.py`.

They are small and well known, and lie in the package because the API's image has no scikit-learn.
"""

import csv
import shutil
from pathlib import Path
from typing import Any

from sklearn import datasets

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "api" / "samples"


def write(name: str, target: str, classes: bool) -> None:
    found: Any = getattr(datasets, f"load_{name}")()
    columns = [column.removesuffix(" (cm)").replace(" ", "_").replace("/", "_") for column in found.feature_names]
    with (FOLDER / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, target])
        for row, label in zip(found.data.tolist(), found.target.tolist(), strict=True):
            shown = [int(value) if value == int(value) else round(value, 10) for value in row]
            writer.writerow([*shown, found.target_names[label] if classes else int(label)])


if __name__ == "__main__":
    write("iris", "species", classes=True)
    write("wine", "cultivar", classes=True)
    write("breast_cancer", "diagnosis", classes=True)
    write("digits", "digit", classes=False)
    write("diabetes", "progression", classes=False)
    shutil.copyfile(ROOT / "examples" / "penguins.csv", FOLDER / "penguins.csv")
