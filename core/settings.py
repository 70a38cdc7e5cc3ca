"""What the operator chooses: one frozen object, read from `BACKPROPD_*` environment variables.

What the *user* chooses for a job belongs to the spec. Nothing is in both.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BACKPROPD_", frozen=True, extra="ignore")

    database_url: str = Field(
        default="sqlite:///backpropd-data/backpropd.sqlite3",
        description="Where the truth lives: `sqlite:///file` or `postgresql://user:password@host/database`.",
    )
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Redis or Valkey: `redis://host:6379/0`, `rediss://...`, or `unix:///path/to/socket?db=0`. "
        "It may lose everything at any time; no job is lost.",
    )
    storage_url: str = Field(
        default="file:backpropd-data/storage",
        description="Where bytes live: `file:folder`, or `s3://bucket/prefix` "
        "(endpoint and credentials from the usual `AWS_*` variables).",
    )
    bootstrap_api_key: str | None = Field(
        default=None,
        repr=False,
        description="Sets the first admin key of the project `default` instead of drawing one at random.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto` is readable lines on a terminal and JSON lines elsewhere."
    )

    max_upload_bytes: int = Field(
        default=2048 * MIB,
        ge=1024,
        description="Largest dataset file that is accepted, in bytes; a compressed one may not hold more either.",
    )
    max_body_bytes: int = Field(default=1 * MIB, ge=1024, description="Largest JSON body that is accepted, in bytes.")
    max_predict_bytes: int = Field(
        default=64 * MIB, ge=1024, description="Largest body of rows to predict that is accepted, in bytes."
    )
    max_predict_rows: int = Field(
        default=100_000,
        ge=1,
        description="Most rows that are predicted in one request; a stored dataset may have more.",
    )
    predict_networks: int = Field(
        default=64, ge=1, description="Networks that one API process keeps loaded for predictions."
    )
    predict_memory_bytes: int = Field(
        default=512 * MIB,
        ge=MIB,
        description="Memory that the networks loaded in one API process may take, about; no larger one is loaded.",
    )
    max_event_readers: int = Field(
        default=2000, ge=1, description="Event streams that one API process holds open at once; above that 503."
    )

    training_slots: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Jobs that one worker trains at once; by default one a CPU core."
    )
    worker_memory_bytes: int | None = Field(
        default=None,
        ge=512 * MIB,
        description="Memory a worker may promise to its runs; by default 80 % of the machine's.",
    )
    work_dir: Path | None = Field(
        default=None,
        description="Folder for the private files of running jobs; by default the system's temporary folder.",
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, description="A run whose worker has been silent for this long is given to another."
    )
    beat_seconds: float = Field(default=5.0, gt=0, description="How often a worker renews the leases of its runs.")
    sweep_seconds: float = Field(
        default=5.0, gt=0, description="How often the sweeper looks for lost bells and dead leases."
    )
    silence_seconds: float = Field(
        default=300.0,
        gt=0,
        description="A training process that has said nothing for this long is killed and counted as a failure.",
    )
    max_job_seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="A job that has been worked on for this long fails with `deadline_exceeded`, whatever its spec "
        "says, and keeps its best weights. Waiting and pauses do not count; each fold counts for itself. "
        "By default there is no such limit.",
    )
    checkpoint_seconds: float = Field(
        default=5.0,
        ge=0,
        description="Least time between two checkpoints of a job, which take a fiftieth of its time at most. "
        "0 writes one after every epoch, whatever that costs.",
    )
    cancel_grace_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Time a cancelled job has to end by itself and keep its weights, and a pausing one to write a "
        "checkpoint, before the training process is killed.",
    )
    drain_seconds: float = Field(
        default=8.0, gt=0, description="Time a stopping worker gives its training processes to write a checkpoint."
    )
    ingest_memory_bytes: int = Field(
        default=1024 * MIB, ge=256 * MIB, description="Memory that reading one dataset may take."
    )
    ingest_seconds: int = Field(
        default=1800, ge=1, description="Seconds of processor time that reading one dataset may take."
    )

    # Set by `backpropd serve` for its worker, which it sees die: the restarted worker frees its predecessor's leases.
    replaces_worker: str | None = Field(
        default=None, description="Id of a worker known to be dead; its leases are freed at once. Set by `serve`."
    )
    worker_id: str | None = Field(default=None, description="Id of this worker; by default a new one. Set by `serve`.")

    @field_validator("database_url")
    @classmethod
    def psycopg_is_the_postgres_driver(cls, url: str) -> str:
        for plain in ("postgresql://", "postgres://"):
            if url.startswith(plain):
                return "postgresql+psycopg://" + url.removeprefix(plain)
        if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must begin with `sqlite:///` or `postgresql://`")
        return url

    @field_validator("broker_url")
    @classmethod
    def the_broker_speaks_redis(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with `redis://`, `rediss://` or `unix://`")
        return url

    @field_validator("storage_url")
    @classmethod
    def storage_is_a_folder_or_a_bucket(cls, url: str) -> str:
        if not url.startswith(("file:", "s3://")):
            raise ValueError("must begin with `file:` or `s3://`")
        return url


settings = Settings()
