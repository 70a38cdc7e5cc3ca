"""Content-Digest (RFC 9530): what a client says that its body is."""

import base64
import binascii
import hashlib
import re
from typing import Any

from fastapi import Request

from core import errors

ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def stated_digests(request: Request) -> list[tuple[Any, bytes]]:
    """What the body shall be, with something to hash it by, for each algorithm that is known here.

    Others are ignored, as the RFC has it. Raises `InvalidRequest`.
    """
    stated = ",".join(request.headers.getlist("content-digest"))
    parts = [part.strip().partition("=") for part in stated.split(",")]
    return [(ALGORITHMS[name.lower()](), _bytes(text)) for name, _, text in parts if name.lower() in ALGORITHMS]


def _bytes(text: str) -> bytes:
    match = re.fullmatch(r":([A-Za-z0-9+/]+={0,2}):", text.strip())
    try:
        return base64.b64decode(match[1], validate=True) if match else _refuse()
    except binascii.Error:
        return _refuse()


def _refuse() -> bytes:
    raise errors.InvalidRequest("Content-Digest is not as RFC 9530 has it: `sha-256=:<base64>:`.")
