"""The command `backpropd`: the server's side. (`backprop`, without the d, is the client's.)"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="backpropd",
    help="Neural-network training as a service. `backpropd serve` is all of it on one machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Host = Annotated[str, typer.Option(help="Address to listen on.", envvar="BACKPROPD_HOST")]
Port = Annotated[int, typer.Option(help="Port to listen on.", envvar="BACKPROPD_PORT", min=1, max=65535)]


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, default=str, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")  # an id that was cut off could not be used
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


@app.command(epilog="Example: `backpropd serve --port 8000 --data-dir ./backpropd-data`")
def serve(
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", envvar="BACKPROPD_PORT", min=0, max=65535)
    ] = 8000,
    host: Host = "127.0.0.1",
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("backpropd-data"),
) -> None:
    """Runs everything on this machine: API, worker, sweeper, embedded broker, SQLite."""
    from standalone.serve import Refused, Serve

    try:
        Serve(data_dir, host, port).run()
    except Refused as reason:
        print(f"backpropd: {reason}", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command(epilog="Example: `backpropd api --host 0.0.0.0 --port 8000`")
def api(
    host: Host = "127.0.0.1",
    port: Port = 8000,
) -> None:
    """Runs one API process. Start as many as you like behind a load balancer."""
    from standalone import processes

    processes.api(host, port)


@app.command(epilog="Example: `BACKPROPD_TRAINING_SLOTS=4 backpropd worker`")
def worker() -> None:
    """Runs one worker: training slots and one short slot. Start one a machine."""
    from standalone import processes

    processes.worker()


@app.command(epilog="Example: `backpropd sweeper`")
def sweeper() -> None:
    """Runs the sweeper: rings lost bells and rescues runs. One leads, however many are started."""
    from standalone import processes

    processes.sweeper()


@app.command(epilog="Example: `backpropd check worker`")
def check(
    process: Annotated[Literal["api", "worker", "sweeper"], typer.Argument(help="Which process of this machine.")],
    host: Host = "127.0.0.1",
    port: Port = 8000,
) -> None:
    """Ends with 0 when a process does its work, and with 1 and the reason when it does not. For health checks."""
    from standalone import checks

    match process:
        case "api":
            everywhere = host in ("0.0.0.0", "::")  # noqa: S104 - a comparison
            reason = checks.api("127.0.0.1" if everywhere else host, port)
        case "worker":
            reason = checks.worker()
        case "sweeper":
            reason = checks.sweeper()
    if reason is not None:
        print(f"backpropd: {reason}", file=sys.stderr)
        raise typer.Exit(1)


@app.command(epilog="Example: `backpropd migrate --json`")
def migrate(as_json: AsJson = False) -> None:
    """Brings the database to the newest tables. Safe to run twice, or twice at once."""
    import migrations
    from standalone.prepare import first_key

    migrations.upgrade()
    made = first_key(None) is not None
    show([{"revision": migrations.head(), "bootstrap_key_stored": made}], as_json)


@app.command(epilog="Example: `backpropd config --json`")
def config(as_json: AsJson = False) -> None:
    """Shows every setting: its value here, and what it means. Secrets are masked."""
    from core.settings import Settings
    from standalone.configuration import effective

    show(effective(Settings()), as_json)


@app.command(epilog="Example: `FAULT=succeed.before_commit:1:kill backpropd worker`")
def faults(as_json: AsJson = False) -> None:
    """Lists where a process can be made to die, fail, sleep or stop: `FAULT=name:n:kill|raise|sleep|stop`."""
    from core.faults import POINTS

    show([{"name": name, "process": process, "what": what} for name, (process, what) in POINTS.items()], as_json)


@keys_app.command("create", epilog="Example: `backpropd keys create --project growth --name ci`")
def create_key(
    project: Annotated[str, typer.Option(help="Project of the key; made where it does not exist.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    admin: Annotated[bool, typer.Option("--admin", help="May also read /metrics.")] = False,
    as_json: AsJson = False,
) -> None:
    """Makes a key and shows it, this once."""
    from api import keys
    from core import database

    with database.writing() as session:
        project_id = keys.create_project(session, project)
        key = keys.create_key(session, project_id, name, admin=admin)
        session.commit()
    show([{"project": project, "name": name, "admin": admin, "key": key}], as_json)


@keys_app.command("list", epilog="Example: `backpropd keys list --json`")
def list_keys(as_json: AsJson = False) -> None:
    """Lists all keys, with their last four letters."""
    from sqlalchemy import select

    from core import database
    from core.tables import Key, Project

    with database.reading() as session:
        found = session.execute(
            select(Key, Project.name).join(Project, Project.id == Key.project_id).order_by(Key.id)
        ).all()
    show(
        [
            {
                "id": key.id,
                "project": project,
                "name": key.name,
                "admin": key.admin,
                "ends_in": key.last_four,
                "created_at": key.created_at.isoformat(timespec="seconds"),
                "revoked_at": key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else None,
            }
            for key, project in found
        ],
        as_json,
    )


@keys_app.command("revoke", epilog="Example: `backpropd keys revoke key_01h...`")
def revoke_key(key_id: Annotated[str, typer.Argument(help="The key's id, from `backpropd keys list`.")]) -> None:
    """Makes a key worthless, from its next request on."""
    from sqlalchemy import update

    from core import database
    from core.database import changed, db_now
    from core.tables import Key

    with database.writing() as session:
        found = session.execute(
            update(Key).where(Key.id == key_id, Key.revoked_at.is_(None)).values(revoked_at=db_now())
        )
        session.commit()
    if not changed(found):
        print("backpropd: there is no such key that is still valid", file=sys.stderr)
        raise typer.Exit(1)
    print(f"revoked {key_id}")


def main() -> None:
    try:
        app()
    except Exception as error:
        reason = _mistake(error)
        if reason is None:
            raise
        print(f"backpropd: {reason}", file=sys.stderr)
        sys.exit(1)


def _mistake(error: Exception) -> str | None:
    """What an operator can mend, in a sentence; anything else keeps its traceback."""
    from pydantic import ValidationError
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, ValidationError) and error.title == "Settings":
        found = error.errors(include_url=False, include_input=False)[0]
        return f"BACKPROPD_{str(found['loc'][0]).upper()}: {found['msg'].removeprefix('Value error, ')}"
    if isinstance(error, DBAPIError):
        if "no such table" in str(error) or "UndefinedTable" in str(error):
            return "the database has no tables yet; run `backpropd migrate`"
        return f"the database does not answer ({type(error.orig).__name__}); look at BACKPROPD_DATABASE_URL"
    return None


if __name__ == "__main__":
    main()
