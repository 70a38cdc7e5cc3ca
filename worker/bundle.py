"""`bundle.zip`: all that a job leaves, in one file."""

import shutil
import zipfile
from pathlib import Path

BUNDLE_FILE = "bundle.zip"
SAME_MOMENT = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say: the same files make the same bytes
NOT_IN_IT = {BUNDLE_FILE, "state_dict.pt"}  # the second has the weights once more
STORED = {
    ".safetensors",
    ".onnx",
    ".keras",
    ".h5",
}  # weights do not get smaller, and compressing them takes 30 ms a megabyte


def write_bundle(file: Path, *folders: Path) -> None:
    """Every file of these folders, by name; a link is none."""
    found = {
        one.name: one
        for folder in folders
        if folder.is_dir()
        for one in folder.iterdir()
        if one.is_file() and not one.is_symlink() and one.name not in NOT_IN_IT
    }
    with zipfile.ZipFile(file, "w") as bundle:
        for name in sorted(found):
            entry = zipfile.ZipInfo(name, SAME_MOMENT)
            entry.external_attr = 0o644 << 16
            stored = found[name].suffix in STORED
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            with found[name].open("rb") as source, bundle.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)
