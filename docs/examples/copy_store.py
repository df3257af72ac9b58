"""Copies a store to another folder or bucket: python copy_store.py store s3://bucket/folder

Nobody may write to it meanwhile. What is there already is left alone, so a copy that was stopped goes on. Objects come
before the snapshots that name them: whatever a reader of the copy sees is whole.
"""

import sys

from armorm.features.store.storage import open_storage

FOLDERS = ("objects", "snapshots", "runs")
"""All that a store is; leases, trash, quarantine and unfinished work stay behind."""


def copy(source: str, target: str) -> int:
    """How many files were copied."""
    here, there = open_storage(source), open_storage(target)
    copied = 0
    for folder in FOLDERS:
        held = {file.name: file.size_bytes for file in there.files(folder)}
        for file in sorted(here.files(folder), key=lambda file: file.name):
            if held.get(file.name) != file.size_bytes or folder == "runs":
                there.replace(file.name, here.read(file.name))
                copied += 1
    return copied


if __name__ == "__main__":
    print(f"{copy(*sys.argv[1:3])} files copied; `armorm verify` compares their checksums")
