"""What is called when a job has ended."""

from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

JobEvent = Literal["job.succeeded", "job.failed", "job.cancelled"]


def _callable(url: str) -> str:
    """Whether it may be called is decided when it is: a name may lead somewhere else by then."""
    try:
        parts = urlsplit(url)
        legal = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        legal = False
    if not legal or not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise PydanticCustomError("invalid_url", "Give an address that begins with `https://` or `http://`.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise PydanticCustomError("invalid_url", "An address that is called has no user name and no `#`.")
    return url


def _once(events: list[JobEvent]) -> list[JobEvent]:
    return list(dict.fromkeys(events))


class Webhook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, AfterValidator(_callable)] = Field(max_length=2048, description="Where it is POSTed to.")
    events: Annotated[list[JobEvent], AfterValidator(_once)] = Field(
        default=list(get_args(JobEvent)), min_length=1, max_length=10, description="Which ends of the job it is told."
    )
