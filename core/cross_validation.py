"""What the folds of a job have come to, as every reader sees it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.database import db_now
from core.tables import Fold, Job

NOT_MEASURED = {"fold", "rows", "epoch", "stop_reason"}  # of a fold's facts; the others are its loss and metrics


def folds_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[Fold]]:
    """The folds of each of these jobs that has some, in order."""
    found: dict[str, list[Fold]] = {}
    query = select(Fold).where(Fold.job_id.in_(job_ids)).order_by(Fold.job_id, Fold.number)
    for fold in session.scalars(query.execution_options(populate_existing=True)):
        found.setdefault(fold.job_id, []).append(fold)
    return found


def summary(folds: Sequence[Fold]) -> dict[str, Any] | None:
    """The folds that have ended well; once all have, mean and sample standard deviation of what they measured, and the
    epochs of the network that follows: the mean of those that their best weights had. None without folds.

    What one fold could not measure (null) has no mean.
    """
    if not folds:
        return None
    ended = [{"fold": fold.number, **fold.result} for fold in folds if fold.result is not None]
    found: dict[str, Any] = {"folds": ended, "mean": None, "std": None, "epochs": None}
    if len(ended) < len(folds):
        return found
    measured = {name: [one[name] for one in ended] for name in ended[0] if name not in NOT_MEASURED}
    return found | {
        "mean": {name: None if None in values else statistics.fmean(values) for name, values in measured.items()},
        "std": {name: None if None in values else statistics.stdev(values) for name, values in measured.items()},
        "epochs": max(1, int(statistics.fmean(one["epoch"] for one in ended) + 0.5)),
    }


def cross_validation(session: Session, job_id: str) -> dict[str, Any] | None:
    return summary(folds_of(session, [job_id]).get(job_id, []))


def progress(session: Session, job_id: str) -> Mapping[str, Any]:
    """Of a job whose folds are trained: epochs and steps of all of its networks together, the last one's to come.

    The time that is left follows from the time since the first fold was claimed, so that folds beside each other count.
    """
    folds = folds_of(session, [job_id])[job_id]
    last = (summary(folds) or {})["epochs"] or folds[0].epochs
    done = sum(fold.epoch for fold in folds)
    whole = sum(fold.epochs if fold.result is None else fold.epoch for fold in folds) + last
    seconds: Any = session.scalar(select(db_now() - Job.started_at).where(Job.id == job_id))
    return {
        "epoch": done,
        "epochs": whole,
        "step": sum(fold.step for fold in folds),
        "fraction": round(done / whole, 6),
        "eta_seconds": round(float(seconds) * (whole - done) / done, 3) if seconds is not None and done else None,
    }
