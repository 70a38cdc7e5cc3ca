"""polars: the whole file read, and written as Parquet with zstd."""

from pathlib import Path

import polars


def convert(source: Path, folder: Path) -> None:
    table = polars.read_csv(source, try_parse_dates=True, infer_schema_length=10_000)
    table.write_parquet(folder / "table.parquet", compression="zstd")
