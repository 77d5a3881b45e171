"""Adapters on the model hub: ``hub:ORG/NAME[@REVISION]``, of which the files of an adapter come and no others.

What comes is in the cache of the library huggingface_hub, in a folder for each commit, and is read and checked as any
folder is. A commit that is on this machine is not asked for again.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from atha.adapter.record import CLASSES, LORA_FILES, RECIPE, RECORD, SUPPORT, TENSORS
from atha.errors import AdapterError, reason
from atha.texts import LISTS

#: What names of adapters on the hub begin with.
PREFIX = "hub:"
CARD = "README.md"
#: All that an adapter is made of, with the most bytes of each that are fetched.
FILES = {
    RECORD: LISTS,
    RECIPE: 1 << 20,
    CLASSES: LISTS,
    CARD: 1 << 22,
    LORA_FILES[0]: 1 << 20,
    LORA_FILES[1]: 1 << 30,
    TENSORS: 1 << 30,
    SUPPORT: 1 << 30,
}
_NAMED = re.compile(r"(?P<repository>[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,200}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Named(NamedTuple):
    """An adapter on the hub.

    Attributes:
        repository: as ORG/NAME.
        revision: a commit, branch or tag; None: the newest.
    """

    repository: str
    revision: str | None


def is_named(place: str | Path) -> bool:
    """Whether a place is one on the hub."""
    return str(place).startswith(PREFIX)


def parse(place: str | Path) -> Named:
    """What a place on the hub is called.

    Raises:
        AdapterError: it names none.
    """
    found = _NAMED.fullmatch(str(place).removeprefix(PREFIX))
    if found is None or ".." in str(place):
        raise AdapterError(
            f"'{place}' names no adapter on the hub: write it as {PREFIX}ORG/NAME or {PREFIX}ORG/NAME@REVISION"
        )
    return Named(found["repository"], found["revision"])


def on_this_machine(place: str | Path) -> Path:
    """The folder of an adapter, which comes from the hub first if it is named there.

    Raises:
        AdapterError: it cannot be had, is none, or is larger than an adapter is.
    """
    if not is_named(place):
        return Path(place)
    named = parse(place)
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE or _COMMIT.fullmatch(named.revision or ""):
        if (kept := _kept(named)) is not None:
            return kept
        if constants.HF_HUB_OFFLINE:
            raise AdapterError(f"{place} is not on this machine, and HF_HUB_OFFLINE forbids to ask for it: unset that")
    try:
        return _fetched(place, named)
    except AdapterError:
        raise
    except Exception as error:  # of the network, of the hub, of its library
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        raise AdapterError(
            f"{place} cannot be had from the model hub ({reason(error)}): {_mend(named, status)}"
        ) from None


def _mend(named: Named, status: int | None) -> str:
    if status in (401, 403):
        return "log in with hf auth login, or ask its owner for access"
    if status == 404:
        revision = f", and that it has the revision {named.revision}" if named.revision else ""
        return f"check its name{revision}, or log in with hf auth login if it is private"
    return "check the network, set HF_HUB_OFFLINE=1 to use what is on this machine, or get the folder from elsewhere"


def _fetched(place: str | Path, named: Named) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    about = HfApi().model_info(named.repository, revision=named.revision, files_metadata=True)
    wanted = list(_wanted(place, about.siblings or []))
    folder = None
    for name in wanted:  # all of one commit, whatever becomes of the branch meanwhile
        file = Path(hf_hub_download(named.repository, name, revision=about.sha))
        if file.stat().st_size > FILES[name]:
            raise _too_large(place, name, file.stat().st_size)
        folder = file.parent
    assert folder is not None
    return folder


def _wanted(place: str | Path, there: Iterable[Any]) -> Iterable[str]:
    """Names of an adapter's files that are there.

    Raises:
        AdapterError: it is none, or one of them is too large.
    """
    sizes = {one.rfilename: one.size for one in there}
    if RECORD not in sizes:
        raise AdapterError(f"{place} is no adapter, {RECORD} is missing: give a repository that atha push made")
    for name, most in FILES.items():
        if name in sizes:
            if (sizes[name] or 0) > most:
                raise _too_large(place, name, sizes[name])
            yield name


def _too_large(place: str | Path, name: str, size: int) -> AdapterError:
    return AdapterError(
        f"{place} has {name} of {size:,} bytes, the most that is fetched is {FILES[name]:,}: get it from elsewhere"
    )


def _kept(named: Named) -> Path | None:
    """The folder of an adapter that was fetched before."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        file = hf_hub_download(named.repository, RECORD, revision=named.revision, local_files_only=True)
        folder = Path(file).parent
        # The record is fetched first: the others are all there, or its own list tells what is missing.
        hf_hub_download(named.repository, TENSORS, revision=folder.name, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return folder
