"""The address of `backpropd serve`."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from standalone.serve import Serve


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_the_address_that_is_shown_reaches_what_listens(tmp_path: Path, host: str) -> None:
    serve = Serve(tmp_path, host, 0)

    shown = urlsplit(serve.url)

    with serve._socket, socket.create_connection((shown.hostname, shown.port), 5):
        assert serve.url.startswith("http://")
