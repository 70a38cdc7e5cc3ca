"""Identifiers: a prefix that says what the thing is, then a UUIDv7 in base32, so that they sort by age."""

from typing import Literal

from typeid import TypeID

Prefix = Literal["ds", "job", "run", "art", "key", "prj", "wrk", "req", "inq", "fold", "prd", "msg"]


def new_id(prefix: Prefix) -> str:
    return str(TypeID(prefix=prefix))
