"""What a user should know of a column before training on it, and on what figures that rests."""

from core.profile import Column, IdMark, Warning

MOSTLY = 0.9  # of the rows
EXTREME = 1000  # times the spread of the middle 90 % of the values
MANY, FEW = 100, 10  # different values; rows of each, at the median

_ID_MARKS: dict[IdMark, str] = {
    "counts_rows": "The values are consecutive integers, one a row: they count the rows",
    "name": "By its name and its {distinct} different values the column is an id of the row",
    "pattern": "Each row has another value, and all are written alike: the column is an id of the row",
    "unique": "Each row has another value: there is nothing in them that another row could share",
}


def warnings_of(column: Column, rows: int) -> list[Warning]:
    """What the figures of a column say; a constant column has nothing else to be said of it."""
    if column.distinct == 0:
        return [Warning(code="column_all_missing", message="The column is empty.", column=column.name)]
    if column.distinct == 1 and not column.missing:
        return [_constant(column, rows)]
    found = [_mostly_missing(column, rows)] if column.missing >= MOSTLY * rows else []
    if column.id_like is not None:
        found.append(_id_like(column, rows))
    elif column.date_format is None:
        found += [*_high_cardinality(column, rows), *_extreme_values(column)]
    return found


def _constant(column: Column, rows: int) -> Warning:
    return Warning(
        code="constant_column",
        message="The column has one single value: nothing can be learned from it.",
        column=column.name,
        evidence={"rows": rows},
    )


def _mostly_missing(column: Column, rows: int) -> Warning:
    return Warning(
        code="mostly_missing",
        message=f"{column.missing} of {rows} values are missing: what is filled in for them outweighs what is known. "
        "Leave the column out with `features.exclude`, or send what it means that a value is there as a column of its "
        "own.",
        column=column.name,
        evidence={"missing": column.missing, "rows": rows},
    )


def _id_like(column: Column, rows: int) -> Warning:
    assert column.id_like is not None
    why = _ID_MARKS[column.id_like].format(distinct=column.distinct)
    return Warning(
        code="id_like",
        message=f"{why}. A network learns it by heart and knows nothing of the next row: leave it out with "
        "`features.exclude`.",
        column=column.name,
        evidence={"mark": column.id_like, "distinct": column.distinct, "rows": rows},
    )


def _high_cardinality(column: Column, rows: int) -> list[Warning]:
    if column.type not in ("category", "text") or column.distinct < MANY:
        return []
    known = rows - column.missing
    if column.counts is None:
        if column.common is None or column.distinct > known / 2 or (column.longest or 0) > 64:
            return []  # free text, which is no list of values
        message = (
            f"{column.distinct} different values are more than a category may have, so the column is text and cannot "
            "be learned from. Send a coarser one: a region for a postal code, a kind for a name."
        )
    else:
        if sorted(column.counts)[len(column.counts) // 2] >= FEW:
            return []
        message = (
            f"Of {column.distinct} different values most are in fewer than {FEW} rows, too few to learn them one by "
            "one. Join the rare ones, or leave the column out with `features.exclude`."
        )
    evidence = {"distinct": column.distinct, "rows": rows}
    return [Warning(code="high_cardinality", message=message, column=column.name, evidence=evidence)]


def _extreme_values(column: Column) -> list[Warning]:
    if column.quantiles is None or column.minimum is None or column.maximum is None or column.distinct < MANY:
        return []
    low, middle, high = column.quantiles[1], column.quantiles[3], column.quantiles[5]
    far = max(column.maximum - middle, middle - column.minimum)
    if high <= low or far <= EXTREME * (high - low):
        return []
    extreme = column.maximum if column.maximum - middle == far else column.minimum
    return [
        Warning(
            code="extreme_values",
            message=f"A value is {extreme:g} where nine of ten lie between {low:g} and {high:g}: mean and deviation "
            "are those of the few that are far away. Mend them if they are errors, or leave them empty if they stand "
            "for a missing value.",
            column=column.name,
            evidence={"minimum": column.minimum, "maximum": column.maximum, "quantiles": column.quantiles},
        )
    ]
