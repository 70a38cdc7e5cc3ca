"""How wide the network's input can become: an upper bound from the profile, for training rows may lack categories."""

from core.profile import Column
from core.resolve.choices import categories
from core.spec.features import ColumnChoice


def input_width(column: Column, choice: ColumnChoice) -> int:
    """Inputs of the first layer that this column becomes, at most."""
    indicator = int(bool(choice.missing_indicator))
    match choice.type:
        case "number":
            return 1 + indicator
        case "vector":
            return (column.size or 0) + indicator
        case "datetime":
            return len(choice.parts or ()) + len(choice.cyclic or ()) + indicator
        case "category" | None:
            match choice.encode:
                case "ordinal":
                    return 1 + indicator
                case "embedding":
                    return choice.dimension or 0
                case "one_hot" | None:
                    return _places(column, choice)


def _places(column: Column, choice: ColumnChoice) -> int:
    """Categories that may be frequent enough for a place of their own, and one for all others. In the training rows
    none is more frequent than in all rows."""
    every = categories(column) + (choice.impute == "constant")
    least = choice.min_frequency or 1
    if least < 1 or column.counts is None:
        return every
    counts = [*column.counts, *([column.missing] if column.missing else [])]
    return min(every, sum(count >= least for count in counts) + (least > 1) + (choice.impute == "constant"))
