"""What rings: the transport of a worker, which lets nothing through but the one message that `core.queue` sends.

Celery's consumer ends the whole worker on a message that it cannot read, and finds it again when it is back; so one
line that anybody pushed into the queue would interrupt every training of every worker, for ever. What is not a bell
is dropped here, before anything holds it, and said in the log. No work is lost: that is rows.
"""

import base64
import json
from typing import Any

from kombu import transport
from kombu.transport import redis

from core.logs import logger
from core.queue import WORK


def is_bell(message: Any) -> bool:
    """Whether it calls the one task, at once and with no arguments."""
    try:
        headers, properties = message["headers"], message["properties"]
        arguments, named, *_ = json.loads(base64.b64decode(message["body"], validate=True))
        return bool(
            headers["task"] == WORK
            and isinstance(headers["id"], str)
            and headers.get("eta") is headers.get("expires") is None
            and message["content-type"] == "application/json"
            and properties["body_encoding"] == "base64"
            and isinstance(properties["delivery_tag"], str)
            and isinstance(properties["delivery_info"]["exchange"], str)
            and isinstance(properties["delivery_info"]["routing_key"], str)
            and arguments == []
            and named == {}
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return False


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:  # no JSON; it is out of the queue
            logger().warning("strange_bell_dropped", error=type(error).__name__)
            return None


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if is_bell(message):
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        else:
            logger().warning("strange_bell_dropped", error="not_a_bell")


def install() -> None:
    """For the connections of this process that are made from now on, whatever the scheme of the broker's URL."""
    own = f"{__name__}:{Transport.__qualname__}"
    transport.TRANSPORT_ALIASES |= {scheme: own for scheme in ("redis", "rediss")}
