"""Every change of state, and nothing else changes it.

Two rows move together in one transaction: the job, which users read, and its run, which workers claim. Each move is a
conditional UPDATE. A worker's move is fenced by its attempt number: when another has taken the run over, the UPDATE
finds no row, `Fenced` is raised, and whoever holds the stale claim ends without having written anything.

An inquiry moves with its run as a job does.

Order of locks, everywhere: dataset, then run (a job's before those of its folds), then job, then project. (An ingest
holds its own run before all these.)
"""

from core.lifecycle.cancelling import request_cancel
from core.lifecycle.claiming import claim_next, claimable
from core.lifecycle.datasets import dataset_invalid, dataset_ready
from core.lifecycle.deleting import delete_job
from core.lifecycle.ending import crash, fail, release, succeed
from core.lifecycle.folds import fold_trained
from core.lifecycle.holding import keep_transcript, orders, record, renew, save_checkpoint, seconds_worked
from core.lifecycle.inquiries import forget_inquiries, inquiry_answered, inquiry_failed, submit_inquiry
from core.lifecycle.pausing import request_pause, resume
from core.lifecycle.rescuing import expire_leases, rescue_dead
from core.lifecycle.states import INQUIRIES, SLOT_OF, TERMINAL, TRANSITIONS, Capacity, Claim, Fenced, Keep, MadeFile
from core.lifecycle.submitting import datasets_of, resolve_new, submit_dataset, submit_job, uses_dataset
from core.lifecycle.waiting import QueueReason, Waiting, why_queued

__all__ = [
    "INQUIRIES",
    "SLOT_OF",
    "TERMINAL",
    "TRANSITIONS",
    "Capacity",
    "Claim",
    "Fenced",
    "Keep",
    "MadeFile",
    "QueueReason",
    "Waiting",
    "claim_next",
    "claimable",
    "crash",
    "dataset_invalid",
    "dataset_ready",
    "datasets_of",
    "delete_job",
    "expire_leases",
    "fail",
    "fold_trained",
    "forget_inquiries",
    "inquiry_answered",
    "inquiry_failed",
    "keep_transcript",
    "orders",
    "record",
    "release",
    "renew",
    "request_cancel",
    "request_pause",
    "rescue_dead",
    "resolve_new",
    "resume",
    "save_checkpoint",
    "seconds_worked",
    "submit_dataset",
    "submit_inquiry",
    "submit_job",
    "succeed",
    "uses_dataset",
    "why_queued",
]
