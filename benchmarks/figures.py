"""What a benchmark has found: figures, some of them with a target."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One number, or the note why there is none. With `at_most`, `at_least` or `exactly` it has a target."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    exactly: float | None = None
    aim: float | None = None  # beyond the target: where this is meant to end
    low: float | None = None  # bounds, where the value is one of several
    high: float | None = None
    digits: int = 1
    note: str = ""

    @property
    def measured(self) -> str:
        if self.value is None:
            return f"not run: {self.note}"
        value = f"{self.value:,.{self.digits}f}" if isinstance(self.value, float) else f"{self.value:,}"
        bounds = "" if self.low is None else f" ({self.low:,.{self.digits}f} to {self.high:,.{self.digits}f})"
        return f"{value} {self.unit}".rstrip() + bounds

    @property
    def target(self) -> str:
        for sign, bound in (("<=", self.at_most), (">=", self.at_least), ("=", self.exactly)):
            if bound is not None:
                aim = "" if self.aim is None else f", aim {self.aim:g}"
                return f"{sign} {bound:.4g} {self.unit}".rstrip() + aim
        return ""

    @property
    def met(self) -> bool | None:
        if not self.target or self.value is None:
            return None
        return (
            (self.at_most is None or self.value <= self.at_most)
            and (self.at_least is None or self.value >= self.at_least)
            and (self.exactly is None or self.value == self.exactly)
        )


def report(title: str, figures: Iterable[Figure], *, as_json: bool, strict: bool) -> int:
    """Prints the figures; returns the exit code: with `strict`, 1 when a target was missed."""
    figures = list(figures)
    missed = [figure for figure in figures if figure.met is False]
    if as_json:
        rows = [{**asdict(figure), "met": figure.met} for figure in figures]
        print(json.dumps({"title": title, "machine": machine(), "figures": rows}, indent=2))
    else:
        table = Table(title=f"{title}\n{machine()}", title_justify="left", box=None, pad_edge=False)
        for name, justify in (("", "left"), ("measured", "right"), ("target", "left"), ("", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for figure in figures:
            verdict = {None: "", True: "[green]pass[/]", False: "[bold red]MISSED[/]"}[figure.met]
            table.add_row(figure.name, figure.measured, figure.target, verdict)
        Console(highlight=False, width=120).print(table)
    return 1 if strict and missed else 0


def machine() -> str:
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}, load {load:.1f}"
