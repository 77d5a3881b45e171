"""A disk whose power fails: what is on it after each step that a program takes, whatever was not flushed being lost.

File systems differ in what they lose. Here are three, from kind to cruel: one keeps all (as a kill does), one keeps
names but no content that was not flushed, one keeps neither names nor contents that were not.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from atha import durable

Tree = dict[str, "bytes | Tree"]
STEPS = ("mkdir", "rename", "replace", "link", "unlink", "remove", "rmdir", "fsync", "sync")


class Disk:
    """Watches a folder while a program changes it; ``states`` are what power losses leave, in order, each once."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.states: list[Tree] = []
        self._contents: dict[int, bytes] = {}  # of files, as flushed
        self._entries: dict[int, dict[str, int]] = {}  # of folders, as flushed
        self._held: dict[int, int] = {}  # open, so that no number of a file is used again
        for path in (root, *root.rglob("*")):
            self._flush(path)
        self._note()
        for name in STEPS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        patch.setattr(durable, "exchange", self._watched("exchange", durable.exchange))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            if name == "fsync":
                self._flush(Path(f"/proc/self/fd/{arguments[0]}").readlink())
            if name == "sync":
                for path in (self.root, *self.root.rglob("*")):
                    self._flush(path)
            self._note()
            return result

        return call

    def _flush(self, path: Path) -> None:
        number = self._hold(path)
        if path.is_dir():
            self._entries[number] = {one.name: self._hold(one) for one in path.iterdir()}
        else:
            self._contents[number] = path.read_bytes()

    def _hold(self, path: Path) -> int:
        number = path.stat().st_ino
        if number not in self._held:
            self._held[number] = os.open(path, os.O_RDONLY)
        return number

    def _note(self) -> None:
        self.states += [state for state in self.now() if state not in self.states]

    def now(self) -> list[Tree]:
        """What a loss of power leaves now."""
        return [self._kept(self.root, True), self._kept(self.root, False), self._flushed(self._hold(self.root))]

    def _kept(self, folder: Path, contents: bool) -> Tree:
        made: Tree = {}
        for path in folder.iterdir():
            number = self._hold(path)
            if path.is_dir():
                made[path.name] = self._kept(path, contents)
            else:
                made[path.name] = path.read_bytes() if contents else self._contents.get(number, b"")
        return made

    def _flushed(self, folder: int) -> Tree:
        """By what was flushed alone: a folder or file that was not, is empty."""
        return {
            name: self._flushed(number) if stat.S_ISDIR(os.fstat(self._held[number]).st_mode)
            else self._contents.get(number, b"")
            for name, number in self._entries.get(folder, {}).items()
        }  # fmt: skip

    def close(self) -> None:
        for opened in self._held.values():
            with suppress(OSError):
                os.close(opened)


def content(folder: Path) -> Tree:
    """All that is in a folder."""
    return {one.name: content(one) if one.is_dir() else one.read_bytes() for one in folder.iterdir()}


def put(tree: Tree, folder: Path) -> Path:
    """Make a folder of what is in it."""
    folder.mkdir()
    for name, one in tree.items():
        if isinstance(one, bytes):
            (folder / name).write_bytes(one)
        else:
            put(one, folder / name)
    return folder
