"""pyarrow: the whole file read, and written as Parquet with zstd."""

from pathlib import Path

import pyarrow
from pyarrow import csv, parquet

pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)


def convert(source: Path, folder: Path) -> None:
    table = csv.read_csv(source, read_options=csv.ReadOptions(use_threads=False))
    parquet.write_table(table, folder / "table.parquet", compression="zstd")
