"""Columns of the dataset by name, or an error that says which name was probably meant."""

from collections.abc import Mapping
from difflib import get_close_matches

from core import errors
from core.profile import Column


def named(
    name: str, by_name: Mapping[str, Column], pointer: str, problem: type[errors.DataInvalid] = errors.ColumnNotFound
) -> Column:
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, by_name, n=1, cutoff=0.6)
    raise problem(
        errors=[
            {"pointer": pointer, "code": problem.code, "message": problem.title()}
            | ({"suggestion": near[0]} if near else {})
        ]
    )
