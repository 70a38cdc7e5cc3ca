"""How the text of a table is to be read: found by ingest, changed by a user, kept with the dataset.

What is None is found out. Each field says for itself which formats it is about.
"""

import codecs
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Format = Literal["csv", "jsonl", "json", "parquet", "arrow", "npy", "npz", "xlsx"]

# Python's names. UTF-7 and the like are no encodings of files, `idna` and `rot13` none of texts.
ENCODINGS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("ascii", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"),
        *(f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
        *(f"cp{page}" for page in (437, 850, 852, 866, 874, *range(1250, 1259))),
        *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "big5", "gb2312", "gbk", "gb18030", "shift_jis", "cp932"),
        *("euc-jp", "iso2022_jp", "euc-kr", "cp949", "cp950", "johab"),
    )
)
WORDS_FOR = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "none": ""}
MAX_WORDS, MAX_WORD = 100, 64
DIRECTIVES = "YymdbBHIMSfp"


def _by_name(text: object) -> object:
    return WORDS_FOR.get(text, text) if isinstance(text, str) else text


def _can_delimit(text: str) -> str:
    if text.isalnum() or text in "\r\n\"'.+-\\":
        raise ValueError("a delimiter is one character that no number or name has in it, as `;` or `tab`")
    return text


def _can_quote(text: str) -> str:
    if text not in ("", '"', "'", "`", "|", "~", "^"):
        raise ValueError("a quotation mark is `\"`, `'`, another mark, or `none`")
    return text


def _known_encoding(name: str) -> str:
    try:
        plain = codecs.lookup(name).name
    except (LookupError, ValueError):
        plain = ""
    if plain not in ENCODINGS:
        raise ValueError("an encoding that is not known here; try `utf-8`, `utf-16`, `cp1252` or `latin-1`")
    return plain


def _is_date_format(text: str) -> str:
    if re.sub(f"%[{DIRECTIVES}]", "", text).count("%") or not re.search(f"%[{DIRECTIVES}]", text):
        raise ValueError(f"a date format is made of %{' %'.join(DIRECTIVES)} and what stands between, as `%d.%m.%Y`")
    return text


Word = Annotated[str, Field(max_length=MAX_WORD)]
DateFormat = Annotated[str, Field(max_length=64), AfterValidator(_is_date_format)]


class Dialect(BaseModel):
    """How a table in text is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: Annotated[str, Field(max_length=32), AfterValidator(_known_encoding)] | None = Field(
        default=None, description="Of CSV and JSON: `utf-8`, `utf-16`, `cp1252`, `latin-1`, ... as Python names them."
    )
    delimiter: (
        Annotated[str, BeforeValidator(_by_name), Field(min_length=1, max_length=1), AfterValidator(_can_delimit)]
        | None
    ) = Field(default=None, description="Between two fields of CSV: one character, or `tab`, `space`, `pipe`, ...")
    quote: Annotated[str, BeforeValidator(_by_name), Field(max_length=1), AfterValidator(_can_quote)] | None = Field(
        default=None, description="Around fields of CSV; `none` where quotation marks are part of the text."
    )
    header: bool | None = Field(default=None, description="Whether the first row of CSV or XLSX has the names.")
    decimal: Literal[".", ","] | None = Field(default=None, description="The decimal mark of numbers in CSV.")
    missing_values: Annotated[list[Word], Field(max_length=MAX_WORDS)] | None = Field(
        default=None, description="Words of CSV, JSON and XLSX that mean a missing value, besides the empty one."
    )
    date_formats: Annotated[list[DateFormat], Field(max_length=10)] | None = Field(
        default=None, description="Of dates that are not written as in ISO 8601: `%d.%m.%Y`, `%m/%d/%Y %H:%M`."
    )
    sheet: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="The sheet of XLSX that is read; the first by default."
    )


FIELDS_OF: dict[Format, frozenset[str]] = {
    "csv": frozenset(Dialect.model_fields) - {"sheet"},
    "jsonl": frozenset({"encoding", "missing_values", "date_formats"}),
    "json": frozenset({"encoding", "missing_values", "date_formats"}),
    "xlsx": frozenset({"header", "missing_values", "date_formats", "sheet"}),
    "parquet": frozenset(),
    "arrow": frozenset(),
    "npy": frozenset(),
    "npz": frozenset(),
}


class ColumnChoice(BaseModel):
    """What a user wants a column to be read as."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["number", "integer", "boolean", "category", "text", "datetime"] = Field(
        description="What does not fit it is missing, with a warning that counts it."
    )


Choices = dict[Annotated[str, Field(max_length=256)], ColumnChoice]


class Reading(BaseModel):
    """What a user says of how a dataset is to be read; all else is found out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialect: Dialect = Dialect()
    columns: Choices = {}
