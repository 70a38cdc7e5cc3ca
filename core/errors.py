"""Every error a client can meet, one class each: the name is the stable code, the docstring is the sentence.

Raised where the fact is found and never translated on the way out. The same classes serve an HTTP answer
(`application/problem+json`, RFC 9457) and the `error` of a failed job or an invalid dataset.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

KEY_LENGTH = 64
FieldError = dict[str, Any]  # pointer (RFC 6901), code, message, suggestion


def pointer(*path: str | int) -> str:
    """JSON Pointer (RFC 6901). Keys of the input may be shown, so far; values never are."""
    return "".join("/" + str(part)[:KEY_LENGTH].replace("~", "~0").replace("/", "~1") for part in path)


class Problem(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "problem"

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        self.detail = detail or self.title()
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.facts = facts
        super().__init__(self.detail)

    @classmethod
    def title(cls) -> str:
        return " ".join((cls.__doc__ or cls.code).split("\n\n")[0].split())

    def as_error(self) -> dict[str, Any]:
        """The form that stands in `error` of a job or a dataset."""
        found = {"code": self.code, "message": self.detail, **self.facts}
        return {**found, "errors": self.errors} if self.errors else found


# --- the request ------------------------------------------------------------------------------------------------


class MalformedJson(Problem):
    """The body is not valid JSON."""

    status = 400


class IncompleteBody(Problem):
    """The body ended before it was whole; send it again."""

    status = 400


class InvalidRequest(Problem):
    """The request could not be understood."""

    status = 400


class InvalidLastEventId(Problem):
    """Last-Event-ID must be the number of an event of this job; leave it out to start at the first."""

    status = 400


class Unauthenticated(Problem):
    """This needs a valid API key: send `Authorization: Bearer <key>`."""

    status = 401

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InsufficientScope(Problem):
    """This key may not do that; use an admin key."""

    status = 403


class NotFound(Problem):
    """Nothing with this address exists in this project."""

    status = 404


class ArtifactNotFound(Problem):
    """The job has ended without an artifact of this name; `GET /v1/jobs/{id}/artifacts` lists what it has left."""

    status = 404


class MethodNotAllowed(Problem):
    """This address does not answer to that method."""

    status = 405


class NotAcceptable(Problem):
    """None of the media types in Accept can be served here."""

    status = 406


class PayloadTooLarge(Problem):
    """The body is larger than is accepted here."""

    status = 413


class UnsupportedMediaType(Problem):
    """The media type of the body is not supported here.

    A dataset is sent as `--data-binary @file.csv -H 'Content-Type: text/csv'` or as `-F file=@file.csv`.
    """

    status = 415


class RangeNotSatisfiable(Problem):
    """The requested range lies outside the artifact."""

    status = 416


class InvalidSpec(Problem):
    """The body was understood, but parts of it are not acceptable."""

    status = 422


class ModelNotMappable(Problem):
    """Parts of the model have no counterpart here; without them another network would be trained, so none is."""

    status = 422


class InvalidQuery(Problem):
    """A query parameter is not acceptable."""

    status = 422


class InvalidText(Problem):
    """Text may hold neither NUL nor unpaired surrogates."""

    status = 422


class DigestMismatch(Problem):
    """The body is not what its Content-Digest says; nothing was stored. Send it again."""

    status = 422


class PatchNotApplicable(Problem):
    """An operation of the patch does not fit the spec; nothing of the patch was applied."""

    status = 422


class PatchTestFailed(Problem):
    """A `test` operation of the patch found another value in the spec; nothing of the patch was applied."""

    status = 422


class InvalidRows(Problem):
    """Some of the rows are not acceptable; nothing was predicted."""

    status = 422


class NetworkTooLarge(Problem):
    """The network is larger than one that predicts here may be; have a worker do it: `POST /v1/jobs/{id}/predictions`.

    `BACKPROPD_PREDICT_MEMORY_BYTES` sets how large it may be.
    """

    status = 422


class IdempotencyKeyReused(Problem):
    """This Idempotency-Key was already used with another body; draw a new key for a new request."""

    status = 422


class InvalidIdempotencyKey(Problem):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""

    status = 400


class IdempotencyInProgress(Problem):
    """The first request with this Idempotency-Key has not been answered yet; send it again shortly."""

    status = 409


# --- conflicts and capacity -------------------------------------------------------------------------------------


class JobAlreadyTerminal(Problem):
    """The job has already ended; its state does not change any more."""

    status = 409


class JobCancelling(Problem):
    """The job is being cancelled; it can be neither paused nor resumed."""

    status = 409


class NotInCode(Problem):
    """The script would not train what this job has trained: `errors` says what it does not do."""

    status = 422


class ArtifactNotReady(Problem):
    """The job has not made this artifact yet; it is there once the job has succeeded."""

    status = 409


class NoCheckpointYet(Problem):
    """The job has written no checkpoint with best weights yet; ask again while it runs, or when it has ended."""

    status = 409


class JobNotFinished(Problem):
    """The job has not ended yet; wait for its end, or cancel it."""

    status = 409


class NoNetwork(Problem):
    """The job has ended without `network.onnx`, so there is nothing to predict with; its `error` says why."""

    status = 409


class JobInUse(Problem):
    """A predictor points at this job; point it at another one, or delete it first."""

    status = 409


class NoPreviousJob(Problem):
    """The predictor has no previous job to go back to: it has had only one, or that one was deleted."""

    status = 409


class StartNotReady(Problem):
    """The job to start from has not ended yet; send this again when it has."""

    status = 409


class DatasetNotReady(Problem):
    """The dataset is still being read."""

    status = 409


class PredictionsNotReady(Problem):
    """There is no file of these predictions: wait with `?wait=` until they are made, or look at their `error`."""

    status = 409


class DatasetDeleted(Problem):
    """The dataset of this job was deleted, and with it the rows that this needs."""

    status = 409


class NoWeights(Problem):
    """The job has no weights to begin with: it has not ended yet, or has left none; `weights: initial` needs none."""

    status = 409


class DatasetInUse(Problem):
    """A job that has not ended uses this dataset; cancel it first."""

    status = 409


class Unavailable(Problem):
    """A part of the system is not reachable right now; send the same request again."""

    status = 503

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class StorageFull(Problem):
    """The server has no room left to store this."""

    status = 507


# --- datasets ---------------------------------------------------------------------------------------------------


class DatasetProblem(Problem):
    """The dataset cannot be used."""

    status = 422


class DatasetInvalid(DatasetProblem):
    """The dataset could not be read, so nothing can be trained on it."""


class DatasetEmpty(DatasetProblem):
    """The file is empty."""


class DatasetNoRows(DatasetProblem):
    """The file has a header but no rows."""


class DatasetTooLarge(DatasetProblem):
    """The table is larger than is accepted here."""


class DatasetUnparseable(DatasetProblem):
    """The file crashed its reader or used up the reader's memory or time; it is not read again."""


class CsvMalformed(DatasetProblem):
    """The file is not a well-formed CSV table."""


class CsvEncoding(DatasetProblem):
    """The file is not text in any encoding that was found or named; save it as UTF-8 and send it again."""


class CompressionMalformed(DatasetProblem):
    """The compressed file is damaged or cut short."""


class JsonMalformed(DatasetProblem):
    """The file is not JSON that holds a table: rows as objects, or names in `columns` and lists in `rows`."""


class ParquetMalformed(DatasetProblem):
    """The file is not a readable Parquet file."""


class ArrowMalformed(DatasetProblem):
    """The file is not a readable Arrow IPC (Feather) file or stream."""


class NpyMalformed(DatasetProblem):
    """The file is not a NumPy array, or archive of arrays, that is a table: 1 or 2 dimensions, and rows in each."""


class NpyDtypeNotAllowed(DatasetProblem):
    """An array holds something else than booleans, integers, floats or text; nothing was unpickled."""


class XlsxMalformed(DatasetProblem):
    """The file is not a readable XLSX workbook."""


class SheetNotFound(DatasetProblem):
    """The workbook has no sheet of this name."""


class ColumnUnknown(DatasetProblem):
    """A type was chosen for a column that the table does not have."""


class ColumnTypeUnreadable(DatasetProblem):
    """No value of a column can be read as the type that was chosen for it."""


class NulCharacter(DatasetProblem):
    """A text or a name in the table holds a NUL character."""


class DuplicateColumn(DatasetProblem):
    """Two columns have the same name; names are compared after trimming and Unicode normalisation."""


class EmptyColumnName(DatasetProblem):
    """A column has no name."""


class InvalidColumnName(DatasetProblem):
    """A column name is at most 256 characters and holds no control characters."""


# --- what a spec asks of its dataset ----------------------------------------------------------------------------


class DataInvalid(Problem):
    """The dataset cannot be trained on as the spec asks."""

    status = 422

    def as_error(self) -> dict[str, Any]:
        return data_invalid(self)


def data_invalid(problem: Problem) -> dict[str, Any]:
    """The `error` of a job whose data was at fault: one code, and the finer one as its `reason`."""
    return {**Problem.as_error(problem), "code": DataInvalid.code, "reason": problem.code}


class TargetNotFound(DataInvalid):
    """The dataset has no column with the name of the target."""


class ColumnNotFound(DataInvalid):
    """The dataset has no column with a name that the spec uses."""


class TargetNotNumeric(DataInvalid):
    """A regression needs a target of numbers."""


class TargetNotPositive(DataInvalid):
    """This loss needs positive targets: from 0 for `poisson`, above 0 for `gamma`."""


class TargetScaleNotSupported(DataInvalid):
    """Only numbers to predict are scaled, and not with the losses `poisson` and `gamma`; leave `target_scale` out."""


class TargetNotLabels(DataInvalid):
    """Labels are columns of booleans, or of 0 and 1."""


class TargetNotShares(DataInvalid):
    """Several columns that are one class each row hold 0 and 1, or shares that sum to 1."""


class SampleWeightInvalid(DataInvalid):
    """A sample weight is a column of numbers from 0, none of them missing, and not all of them 0."""


class ClassNotFound(DataInvalid):
    """The target has no class of this name."""


class TargetHasInfinity(DataInvalid):
    """The target holds an infinite value; remove or correct that row."""


class TargetSingleClass(DataInvalid):
    """The target has one single class, so there is nothing to learn."""


class TooManyClasses(DataInvalid):
    """The target has too many different values to be classes."""


class DatasetTooSmall(DataInvalid):
    """The dataset has too few rows for this split."""


class ClassTooSmall(DataInvalid):
    """A class has too few rows for a stratified split; use `split.method: random`."""


class SplitColumnInvalid(DataInvalid):
    """The rows cannot be split by this column."""


class ColumnTypeMismatch(DataInvalid):
    """A column of the validation or test dataset has another type than in the dataset that is trained on."""


class ClassUnknown(DataInvalid):
    """Rows of the validation or test dataset have a class that the dataset to train on does not have."""


class NoFeatures(DataInvalid):
    """No column is left to learn from."""


class FeatureNotSupported(DataInvalid):
    """A column of this type cannot be the feature that the spec asks for; leave it out, or choose another `encode`."""


class IncompatibleLoss(DataInvalid):
    """This loss does not fit this task."""


class NotInKeras(DataInvalid):
    """Parts of the network have no counterpart in Keras, so it cannot be written as one; leave it out of `outputs`."""


class IncompatibleOutput(DataInvalid):
    """The last layer does not fit the target."""


class IncompatibleMetric(DataInvalid):
    """This metric is not one of this task."""


class DeviceNotThere(DataInvalid):
    """The worker has no device of this kind; use `resources.device: auto`."""


class StartWithoutWeights(DataInvalid):
    """The job to start from has ended without weights."""


class StartMismatch(DataInvalid):
    """The network of the job to start from does not fit this spec and dataset."""


class ResourcesExceeded(DataInvalid):
    """The job needs more memory than any worker here has."""


class TraceTooLarge(DataInvalid):
    """A trace writes down every number of an update, and this one has too many."""


# --- how a run ends badly ---------------------------------------------------------------------------------------


class Diverged(Problem):
    """The loss became infinite or not a number; try a smaller learning rate."""

    status = 422


class ExportFailed(Problem):
    """A file that predicts by itself could not be made, or does not predict what the network predicts; the weights and
    the other artifacts are kept. Please report it."""


class OutOfMemory(Problem):
    """The training process ran out of the memory reserved for it; use a smaller network or batch."""

    status = 422


class DeadlineExceeded(Problem):
    """The job was worked on for as long as this server allows; `training.stop.max_seconds` ends one well before it."""

    status = 422


class WorkerCrashed(Problem):
    """The training process died again and again; the job was given up."""


class WorkerLost(Problem):
    """The job was interrupted too many times by workers that went away; it was given up."""


class Internal(Problem):
    """Something unexpected happened here; it was logged with this request's id."""


def every_problem(root: type[Problem] = Problem) -> list[type[Problem]]:
    return [found for child in root.__subclasses__() for found in (child, *every_problem(child))]
