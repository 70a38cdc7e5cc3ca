"""The formats of a table: told by media type or file name, and how a user says that its text is written."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import ValidationError

from api.problems import from_validation
from api.strict_json import is_text
from core import errors
from core.dialect import FIELDS_OF, Dialect, Format

PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "text/plain": "csv",
    "application/json": "json",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/x-jsonlines": "jsonl",
    PARQUET: "parquet",
    "application/parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/x-npy": "npy",
    "application/x-npz": "npz",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".npy": "npy",
    ".npz": "npz",
    ".xlsx": "xlsx",
}
PACKED = (".gz", ".zst")  # around a text; what is in a file says its first bytes
# What says less than a name does: of a .csv browsers on Windows say that it is Excel's, of an .npz that it is a zip.
VAGUE = (
    "",
    "application/octet-stream",
    "application/vnd.ms-excel",
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
    "text/plain",
)
HOW = (
    "Send a file as `--data-binary @file.csv -H 'Content-Type: text/csv'`, or as a form with `-F file=@file.csv`; else "
    "as `-H 'Content-Type: application/octet-stream'` with `?name=file.npz`. Taken are "
    f"{', '.join(SUFFIXES)}, the texts among them also as .gz or .zst."
)


def format_of(content_type: str, name: str | None) -> Format:
    """By media type, else by the name's suffix. Raises `UnsupportedMediaType`."""
    path = PurePosixPath((name or "").lower())
    if path.suffix in PACKED:
        path = path.with_suffix("")
    by_name = SUFFIXES.get(path.suffix)
    if content_type in VAGUE and by_name is not None:
        return by_name
    if content_type in MEDIA_TYPES:
        return MEDIA_TYPES[content_type]
    raise errors.UnsupportedMediaType(HOW)


def dialect_of(sent: Mapping[str, Any], kind: Format, *path: str) -> Dialect:
    """A dialect as JSON has it. Raises `InvalidSpec` with pointers below `path`."""
    try:
        found = Dialect.model_validate(sent)
    except ValidationError as error:
        raise _below(path, from_validation(error, Dialect)) from None
    strange = sorted(found.model_fields_set - FIELDS_OF[kind])
    if strange:
        message = f"Nothing of this kind is to be said of {kind}."
        raise errors.InvalidSpec(
            errors=[
                {"pointer": errors.pointer(*path, name), "code": "not_applicable", "message": message}
                for name in strange
            ]
        )
    return found


def _below(path: Sequence[str], problem: errors.InvalidSpec) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        problem.detail, errors=[one | {"pointer": errors.pointer(*path) + one["pointer"]} for one in problem.errors]
    )


def dialect_of_texts(sent: Mapping[str, str | list[str]], kind: Format, place: str) -> Dialect:
    """A dialect from the parameters of a query or the fields of a form, where words stand between commas.

    Raises `InvalidQuery`.
    """
    given: dict[str, Any] = dict(sent)
    if not all(is_text(text) for value in given.values() for text in ([value] if isinstance(value, str) else value)):
        raise errors.InvalidText()
    if isinstance(words := given.get("missing_values"), str):
        given["missing_values"] = [word for word in words.split(",") if word]
    if isinstance(formats := given.get("date_formats"), str):
        given["date_formats"] = [formats]
    try:
        return dialect_of(given, kind, place)
    except errors.InvalidSpec as problem:
        raise errors.InvalidQuery(errors=problem.errors) from None


def _described(name: str) -> Any:
    return Query(description=Dialect.model_fields[name].description)


def dialect_of_query(
    encoding: Annotated[str | None, _described("encoding")] = None,
    delimiter: Annotated[str | None, _described("delimiter")] = None,
    quote: Annotated[str | None, _described("quote")] = None,
    header: Annotated[str | None, _described("header")] = None,
    decimal: Annotated[str | None, _described("decimal")] = None,
    missing_values: Annotated[str | None, _described("missing_values")] = None,
    date_formats: Annotated[list[str] | None, _described("date_formats")] = None,
    sheet: Annotated[str | None, _described("sheet")] = None,
) -> dict[str, str | list[str]]:
    """What the query says of a dialect; checked when the format is known."""
    given = {
        "encoding": encoding,
        "delimiter": delimiter,
        "quote": quote,
        "header": header,
        "decimal": decimal,
        "missing_values": missing_values,
        "date_formats": date_formats,
        "sheet": sheet,
    }
    return {name: value for name, value in given.items() if value is not None}


DialectTexts = Annotated[dict[str, str | list[str]], Depends(dialect_of_query)]
