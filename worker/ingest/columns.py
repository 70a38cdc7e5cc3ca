"""The profile: what each column holds."""

import unicodedata
from pathlib import Path
from typing import Any

import duckdb

from core import errors
from core.profile import MAX_VALUES, Column, ColumnType, Warning

MAX_NAME = 256


def check_names(names: list[str]) -> None:
    """Raises the problem of the first name that cannot be one."""
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        plain = unicodedata.normalize("NFC", name).strip()
        if not plain:
            raise errors.EmptyColumnName(f"Column {position} has no name.", position=position)
        if len(plain) > MAX_NAME or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in plain):
            raise errors.InvalidColumnName(position=position)
        if plain in seen:
            raise errors.DuplicateColumn(
                f"Columns {seen[plain]} and {position} have the same name.", positions=[seen[plain], position]
            )
        seen[plain] = position


def describe(connection: duckdb.DuckDBPyConnection, table: Path, rows: int) -> tuple[list[Column], list[Warning]]:
    """Profiles each column, and settles which row of which array it will be."""
    kinds = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(table)]).fetchall()
    columns: list[Column] = []
    warnings: list[Warning] = []
    number_rows = code_rows = 0
    for name, kind, *_ in kinds:
        facts = _facts(connection, table, name, kind, rows)
        if facts["type"] in ("number", "integer"):
            facts["number_row"], number_rows = number_rows, number_rows + 1
        if facts.get("values") is not None:
            facts["code_row"], code_rows = code_rows, code_rows + 1
        column = Column(name=name, **facts)
        columns.append(column)
        if column.distinct == 0:
            warnings.append(Warning(code="column_all_missing", message="The column is empty.", column=name))
        elif column.distinct == 1 and not column.missing:
            warnings.append(Warning(code="constant_column", message="The column has one single value.", column=name))
    return columns, warnings


def _facts(connection: duckdb.DuckDBPyConnection, table: Path, name: str, kind: str, rows: int) -> dict[str, Any]:
    column = '"' + name.replace('"', '""') + '"'
    source = "FROM read_parquet(?)"

    def ask(what: str) -> list[Any]:
        return connection.execute(f"SELECT {what} {source}", [str(table)]).fetchall()

    known, distinct = ask(f"count({column}), count(DISTINCT {column})")[0]
    found: dict[str, Any] = {"missing": rows - known, "distinct": distinct, "type": _type(kind, known, distinct)}
    if found["type"] in ("number", "integer"):
        # `inf` counts as missing: it is left out of every figure.
        finite = f"FILTER (WHERE isfinite({column}::DOUBLE))"
        low, high, mean, std = ask(
            f"min({column}::DOUBLE) {finite}, max({column}::DOUBLE) {finite}, "
            f"avg({column}::DOUBLE) {finite}, stddev_pop({column}::DOUBLE / 1e154) {finite} * 1e154"
        )[0]
        found |= {"minimum": low, "maximum": high, "mean": _finite(mean), "std": _finite(std)}
    if found["type"] in ("integer", "boolean", "category") and distinct <= MAX_VALUES:
        counted = connection.execute(
            f"SELECT {column}, count(*) {source} WHERE {column} IS NOT NULL GROUP BY 1",
            [str(table)],
        ).fetchall()
        counted.sort(key=lambda pair: pair[0])
        found |= {"values": [value for value, _ in counted], "counts": [count for _, count in counted]}
    return found


def _type(kind: str, known: int, distinct: int) -> ColumnType:
    if kind == "BOOLEAN":
        return "boolean"
    if kind in ("FLOAT", "DOUBLE"):
        return "number"
    if kind.endswith("INT") or kind in ("INTEGER", "UINTEGER"):
        return "integer"
    if kind.startswith(("DATE", "TIME")):
        return "datetime"
    return "text" if distinct > MAX_VALUES or (distinct > 50 and distinct > known / 2) else "category"


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None
