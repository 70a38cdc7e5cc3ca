"""Interpreters that have a few distributions and nothing else."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def only(folder: Path, *names: str) -> Path:
    """A new folder to import from: links to all that these distributions install, and what they cannot do without."""
    folder.mkdir(parents=True)
    waiting, known = list(names), set[str]()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in known:
            continue
        known.add(name)
        found = distribution(name)
        wanted = map(Requirement, found.requires or [])
        waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
        for top in {path.parts[0] for path in found.files or [] if path.parts[0] not in ("..", "__pycache__", "bin")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(found.locate_file(top))
    return folder


def run(libraries: Path, folder: Path, *arguments: str) -> str:
    """What Python prints that sees the standard library, this folder and these libraries: -S leaves out
    `site-packages`, -I the environment."""
    start = f"import sys; sys.path += {[str(folder), str(libraries)]!r}; sys.argv[:] = sys.argv[1:]\n"
    if arguments[0] == "-c":
        code, rest = arguments[1], ["-c", *arguments[2:]]
    else:
        code, rest = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')", list(arguments)
    command = [sys.executable, "-I", "-S", "-B", "-c", start + code, *rest]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
