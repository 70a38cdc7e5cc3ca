"""From whatever encoding a text is in to UTF-8, as a stream."""

import codecs
from dataclasses import dataclass
from pathlib import Path

import charset_normalizer

from core import errors

BLOCK = 1024 * 1024
HEAD = 1024 * 1024  # bytes that the encoding is guessed from

MARKS = (  # UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Those that tables really come in. Where several make sense of a file alike, the first is taken.
GUESSES = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "cp932", "gb18030", "big5", "cp949", "euc_jp",
           "koi8_r", "cp1255", "cp1256", "cp874"]  # fmt: skip
DOUBLE = ("cp932", "gb18030", "big5", "cp949", "euc_jp")  # whose bytes may look like UTF-8 for a while
LIKELIER = 0.02  # by how much less chaos a rarer encoding must leave


def as_utf8(source: Path, folder: Path, asked: str | None) -> tuple[Path, str]:
    """The file as UTF-8, which it may be already, and the name of the encoding that it came in.

    Raises `CsvEncoding` with the byte that is wrong.
    """
    name = asked or _found(source)
    if name == "utf-8":
        if asked and (broken := _first_broken(source)) is not None:
            raise _not(name, broken.offset)
        return source, name
    target = folder / "utf-8.txt"
    _rewrite(source, target, name)
    return target, name


def _found(source: Path) -> str:
    with source.open("rb") as file:
        head = file.read(HEAD)
    if name := _marked(head) or _wide(head):
        return name
    broken = _first_broken(source)
    if broken is None:
        return "utf-8"
    name = _guess(_around(source, broken.offset), broken.offset)
    if broken.after_others and name not in DOUBLE:
        raise _not("utf-8", broken.offset)
    return name


@dataclass(frozen=True)
class Broken:
    """The first byte that is not UTF-8."""

    offset: int
    after_others: bool  # letters before it are: a file that is UTF-8, and damaged or mixed


def _first_broken(source: Path) -> Broken | None:
    decoder, offset, tail, others = codecs.getincrementaldecoder("utf-8")(), 0, b"", False
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            try:
                others = not decoder.decode(block).isascii() or others
            except UnicodeDecodeError as error:
                before = (tail + block)[: error.start]
                return Broken(offset - len(tail) + error.start, others or not before.isascii())
            tail = decoder.getstate()[0]
            offset += len(block)
    return Broken(offset - len(tail), others) if tail else None


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: half of its bytes are NUL where the text is mostly Latin."""
    part = head[:4096]
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = part[start::2].count(0), part[1 - start :: 2].count(0)
        if zeros > len(part) / 5 and not others:
            return name
    return None


def _around(source: Path, broken: int) -> bytes:
    """What is guessed from: the first byte that says anything may come late in a long file."""
    with source.open("rb") as file:
        if broken > HEAD // 2:
            file.seek(broken - HEAD // 2)
            file.readline(HEAD // 4)  # to where a letter begins
        return file.read(HEAD)


def _guess(part: bytes, broken: int) -> str:
    found = charset_normalizer.from_bytes(part, cp_isolation=GUESSES, threshold=0.6, language_threshold=0.1)
    matches = {name: match for match in found for name in match.could_be_from_charset if name in GUESSES}
    if not matches:
        raise errors.CsvEncoding(
            f"The file is not UTF-8 text at byte {broken}, nor in another encoding that was found; name it as "
            "`encoding`.",
            offset=broken,
        )
    least = min(match.chaos for match in matches.values())
    first = next(name for name in GUESSES if name in matches and matches[name].chaos <= least + LIKELIER)
    best = found.best()
    # Between two of these the languages decide; that it is one at all must show beside the others.
    return best.encoding if first in DOUBLE and best is not None and best.encoding in DOUBLE else first


def _rewrite(source: Path, target: Path, name: str) -> None:
    decoder, offset = codecs.getincrementaldecoder(name)(), 0
    with source.open("rb") as file, target.open("wb") as plain:
        while True:
            block = file.read(BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
                plain.write((text if offset else text.removeprefix("\ufeff")).encode())
            except UnicodeDecodeError as error:
                raise _not(name, offset - pending + error.start) from error
            except UnicodeError as error:  # a half of a pair, or UTF-16 without its mark
                raise _not(name, offset) from error
            if not block:
                return
            offset += len(block)


def _not(name: str, offset: int) -> errors.CsvEncoding:
    return errors.CsvEncoding(f"The file is not {name} text at byte {offset}.", offset=offset, encoding=name)
