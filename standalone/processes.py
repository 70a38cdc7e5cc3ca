"""The processes, each as one function. `python -m standalone.processes NAME` is how `serve` starts its children:
without the command line's own imports, which would cost each of them 20 MB.
"""

import signal
import socket
import sys


def api(host: str, port: int, fd: int | None = None) -> None:
    """Serves HTTP on an address, or on a socket that somebody else has bound already."""
    import uvicorn

    # Once it has stopped, uvicorn raises the signal again, and a clean stop would look like a violent death.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    config = uvicorn.Config(
        "api.main:app",
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # api/requests.py writes the line, with the request's id
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=None if fd is None else [socket.socket(fileno=fd)])


def worker() -> None:
    """Supervises training processes until SIGTERM."""
    from worker.app import app

    app.worker_main(["--quiet", "worker", "--loglevel=WARNING", "--without-gossip", "--without-mingle"])


def sweeper() -> None:
    """Rings, rescues and collects until SIGTERM."""
    from worker.sweeper import main

    main()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["api", "--fd", number]:
            api("", 0, int(number))
        case ["worker"]:
            worker()
        case ["sweeper"]:
            sweeper()
        case _:
            sys.exit("standalone.processes: api --fd N | worker | sweeper")
