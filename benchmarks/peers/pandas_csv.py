"""pandas: the whole file read, and written as Parquet with zstd."""

from pathlib import Path

import pandas


def convert(source: Path, folder: Path) -> None:
    table = pandas.read_csv(source, parse_dates=["day", "moment"])
    table.to_parquet(folder / "table.parquet", compression="zstd")
