"""Files and folders that take a place in one step, whatever ends the process or the machine meanwhile.

What is being made lies in a work folder beside its place, which is locked for as long as its process lives. It is
flushed to the disk before it takes the place, and the place after that. What a kill leaves, `tidy` finishes or removes.

``.atha-saving-ID.lock``      held by the process that writes
``.atha-saving-ID/new/NAME``  what is being made, and after an exchange what was there before
``.atha-saving-ID/old/NAME``  what was there before, where the system cannot exchange in one step
"""

import ctypes
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

_WORK, _LOCK = ".atha-saving-", ".lock"
_OURS = re.compile(rf"({re.escape(_WORK)}[0-9a-f]{{12}})(?:{re.escape(_LOCK)})?")
# Linux: renameat2(2), relative to the working directory, both names stay.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# Files and folders beyond which all of the system's are flushed at once: each by itself takes milliseconds.
_MANY = 100
# A kernel, a file system or a sandbox that cannot exchange.
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


@contextmanager
def replacement(target: Path) -> Iterator[Path]:
    """A place for a new file or folder, which becomes ``target`` when the block ends without an error.

    Args:
        target: what to make; what was there stays until the new one is whole and on the disk.

    Raises:
        OSError: it cannot be written.
    """
    _make_folder(target.parent)
    tidy(target.parent)
    with _work_folder(target.parent) as work:
        new = work / "new" / target.name
        new.parent.mkdir()
        yield new
        _flush_all(new)
        if new.is_dir() and target.is_dir():
            _replace_folder(target, new, work / "old" / target.name)
        else:
            new.replace(target)
        _flush(target.parent)


def tidy(parent: Path) -> None:
    """Finish or remove what commands that were killed have left in a folder; those that still run are left alone.

    Args:
        parent: of the files and folders that were being made.
    """
    with suppress(OSError):  # no such folder, or a closed one: nothing can be there that could be removed
        found = map(_OURS.fullmatch, os.listdir(parent))  # noqa: PTH208
        for work in {parent / name[1] for name in found if name}:
            with suppress(OSError), _locked(work):
                _settle(work)


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    work = parent / f"{_WORK}{uuid4().hex[:12]}"
    with _locked(work):  # before the folder, so that none is ever without
        try:
            work.mkdir()
            yield work
        finally:
            _settle(work)


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Hold the lock of a work folder, which the system frees when a process ends; `OSError` if another has it."""
    from filelock import FileLock

    lock = work.with_name(work.name + _LOCK)
    with FileLock(lock, timeout=0):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _settle(work: Path) -> None:
    """Put in its place what was about to take it, and remove all else."""
    made = [work, work / "new", work / "old"]
    if all(folder.is_dir() and not folder.is_symlink() for folder in made):  # who made links there meant harm
        for old in made[2].iterdir():
            target, new = work.parent / old.name, work / "new" / old.name
            if not target.exists():  # ended between two renames; the new one is whole by then
                try:
                    new.replace(target)
                except OSError:
                    old.replace(target)
                _flush(target.parent)
    shutil.rmtree(work, ignore_errors=True)


def _replace_folder(target: Path, new: Path, old: Path) -> None:
    if not exchange(target, new):
        old.parent.mkdir()
        target.replace(old)
        new.replace(target)


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders of one file system change places in one step.

    Returns:
        Whether they did; not, where the system cannot.

    Raises:
        OSError: it can, and refused.
    """
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(one))


@cache
def _renameat2() -> Any:
    """The system's function; None where it has none."""
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another libc; Windows
        return None
    found.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return found


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, on the disk too."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        _flush(one.parent)


def _flush_all(path: Path) -> None:
    """See to it that a file, or a folder with all that is in it, is on the disk."""
    there = [path]
    for folder, folders, files in os.walk(path):
        there += [Path(folder, name) for name in (*folders, *files)]
    if len(there) > _MANY and hasattr(os, "sync"):
        os.sync()
        return
    for one in (*there, path.parent):
        _flush(one)


def _flush(path: Path) -> None:
    kind = path.lstat().st_mode
    if os.name == "nt" or not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return  # Windows flushes nothing that is open for reading; a pipe would wait for a writer
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        if stat.S_ISREG(kind):  # some file systems flush no folder
            raise
    finally:
        os.close(opened)
