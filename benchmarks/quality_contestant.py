"""One table and one seed: our network with all defaults, scikit-learn's, and the baseline, on the same rows held out.

Both read the same CSV file of the rows to learn from. Ours holds a fifth of these back for validation, as it does by
default; scikit-learn learns from all of them. Run by `quality.py` in a process of its own.
"""

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from quality_ours import loss_of
from quality_tables import OTHERS, TABLES
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

BY_NAME = {table.name: table for table in (*TABLES, *OTHERS)}


def compare(name: str, seed: int, training: dict[str, Any], peer: bool) -> dict[str, Any]:
    """`training` is empty, but where other defaults are tried."""
    torch.set_num_threads(1)
    table = BY_NAME[name]
    learned, held_out = table.split(seed)
    classes = table.predicts_classes(learned)
    with tempfile.TemporaryDirectory(prefix="backpropd-benchmark-") as temporary:
        folder = Path(temporary)
        learned.to_csv(folder / "learned.csv", index=False)
        held_out.to_csv(folder / "held_out.csv", index=False)
        spec = {"target": table.target, **({"training": training} if training else {})}
        begun = time.process_time()
        ours, report = loss_of(folder / "learned.csv", folder / "held_out.csv", spec, folder)
        seconds = time.process_time() - begun
        found = {
            "table": name,
            "seed": seed,
            "task": "classes" if classes else "number",
            "rows": len(learned) + len(held_out),
            "columns": learned.shape[1] - 1,
            "baseline": baseline(learned[table.target], held_out[table.target], classes),
            "ours": ours,
            "ours_seconds": seconds,
            "epochs": report["epochs"],
            "kept_epoch": report["kept_epoch"],
        }
        if peer:
            begun = time.process_time()
            parts = [pd.read_csv(folder / f"{part}.csv") for part in ("learned", "held_out")]
            found["sklearn"] = of_sklearn(*parts, table.target, classes, seed)
            found["sklearn_seconds"] = time.process_time() - begun
    return found


def baseline(learned: "pd.Series[Any]", held_out: "pd.Series[Any]", classes: bool) -> float:
    """The loss of one answer for all rows: the shares of the classes, or the mean."""
    if classes:
        return float(-np.log(held_out.map(learned.value_counts(normalize=True)).astype(float)).mean())
    return float(np.sqrt(((held_out - learned.mean()) ** 2).mean()))


def of_sklearn(learned: pd.DataFrame, held_out: pd.DataFrame, target: str, classes: bool, seed: int) -> float:
    """Its MLP with its own defaults, after the preprocessing of its own user guide; numbers to predict are scaled, for
    without that it does not get near them."""
    numbers, others = make_column_selector(dtype_include="number"), make_column_selector(dtype_exclude="number")
    ready = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("others", make_pipeline(SimpleImputer(strategy="most_frequent"), _one_hot()), others),
        ]
    )
    inputs, held_out_inputs = (_dates_as_numbers(part.drop(columns=target)) for part in (learned, held_out))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # a category that only the rows held out have
        if classes:
            found = make_pipeline(ready, MLPClassifier(random_state=seed)).fit(inputs, learned[target].astype(str))
            return float(
                log_loss(held_out[target].astype(str), found.predict_proba(held_out_inputs), labels=found.classes_)
            )
        regressor = TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
        found = make_pipeline(ready, regressor).fit(inputs, learned[target])
        return float(root_mean_squared_error(held_out[target], found.predict(held_out_inputs)))


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore")


def _dates_as_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """pandas reads dates as texts; as such each would be a category of its own."""
    frame = frame.copy()
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            dates = pd.to_datetime(frame[name], format="ISO8601", errors="coerce")
            if dates.notna().equals(frame[name].notna()):
                frame[name] = dates.map(pd.Timestamp.timestamp, na_action="ignore")
            else:
                frame[name] = frame[name].astype(object).where(frame[name].notna(), np.nan)
    return frame
