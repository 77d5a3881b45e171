"""An adapter as it is sent to the model hub: its files and nothing of this machine, with a card that says enough."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

from atha.adapter.card import write_card
from atha.adapter.files import Saved
from atha.adapter.hub import CARD, FILES, parse
from atha.adapter.record import RECORD, SUPPORT, Record
from atha.errors import AdapterError, reason
from atha.texts import TextError, read_header, read_text


@dataclass(frozen=True)
class Parcel:
    """What would be sent.

    Attributes:
        folder: that holds it, and nothing else.
        sizes: bytes by file.
        missing: sentences on what the card does not say.
        left_out: sentences on what is not sent.
    """

    folder: Path
    sizes: dict[str, int]
    missing: list[str]
    left_out: list[str]


@contextmanager
def packed(saved: Saved, repository: str, support: bool = False) -> Iterator[Parcel]:
    """An adapter as it would be sent, in a folder that is gone afterwards.

    Paths of this machine and names of its files are taken out of record and card; so is what is kept of the support
    images, unless it is asked for.

    Args:
        saved: the adapter, read and checked.
        repository: as ORG/NAME.
        support: whether small pictures and features of the support images go with it.

    Raises:
        AdapterError: a file of it cannot be read.
    """
    parse(repository)
    with tempfile.TemporaryDirectory(prefix="atha-push-") as place:
        folder = Path(place)
        record = _public(saved.record, support)
        names = [name for name in FILES if name in record.sha256]
        try:
            for name in names:
                content = (saved.folder / name).read_bytes()
                if sha256(content).hexdigest() != record.sha256[name]:
                    raise AdapterError(f"{saved.folder / name} was changed meanwhile: push it again")
                (folder / name).write_bytes(content)
            (folder / RECORD).write_text(record.to_json(), "utf-8")
            card, own = _card(saved, record, repository)
            (folder / CARD).write_text(card, "utf-8", "backslashreplace")
        except OSError as error:
            raise AdapterError(f"{saved.folder} cannot be made ready to be sent ({error.strerror}): check it") from None
        sizes = {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()}
        yield Parcel(folder, sizes, _missing(record, folder / CARD), _left_out(saved, record, own))


def send(parcel: Parcel, repository: str, public: bool) -> str:
    """Send what was packed, in one commit, to a repository that is made if there is none.

    Of an adapter that was there, files that are not sent are removed.

    Returns:
        The commit.

    Raises:
        AdapterError: the hub cannot be reached or refuses; or the repository is public and ``public`` is off.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    hub = HfApi()
    try:
        try:
            if not hub.model_info(repository).private and not public:
                raise AdapterError(f"{repository} is public already: pass --public, or name another repository")
        except RepositoryNotFoundError:
            hub.create_repo(repository, private=not public)
        sent = hub.upload_folder(
            repo_id=repository,
            folder_path=parcel.folder,
            allow_patterns=list(FILES),
            delete_patterns=list(FILES),
            commit_message="Adapter made with atha",
        )
    except AdapterError:
        raise
    except Exception as error:  # of the network, of the hub, of its library
        raise AdapterError(
            f"{repository} cannot be sent to ({reason(error)}): log in with hf auth login, check name and network"
        ) from None
    return str(sent.oid)


def _public(record: Record, support: bool) -> Record:
    """The record without what says something of this machine."""
    keeping = support and SUPPORT in record.sha256
    name = record.backbone.name
    if PurePath(name).is_absolute() or name.startswith((".", "~")) or "\\" in name:
        name = PurePath(name.replace("\\", "/")).name
    changes: dict[str, Any] = {
        "backbone": record.backbone.model_copy(update={"path": None, "name": name}),
        "support": record.support.model_copy(update={"left_out": [], "kept": keeping}),
        "sha256": {file: found for file, found in record.sha256.items() if file != SUPPORT or keeping},
    }
    if record.evaluation is not None:
        baselines = {
            key: figures.model_copy(update={"left_out": []}) for key, figures in record.evaluation.baselines.items()
        }
        changes["evaluation"] = record.evaluation.model_copy(update={"left_out": [], "baselines": baselines})
    return record.model_copy(update=changes)


def _card(saved: Saved, record: Record, repository: str) -> tuple[str, bool]:
    """The model card, and whether it is one of the user's own, which is sent as it is."""
    made = write_card(saved.classes, saved.recipe, record, f"hub:{repository}")
    try:
        there = read_text(saved.folder / CARD, FILES[CARD])
    except TextError:
        return made, False
    ours = write_card(saved.classes, saved.recipe, saved.record)
    return (made, False) if there == ours else (there, True)


def _missing(record: Record, card: Path) -> list[str]:
    try:
        header = read_header(card)
    except TextError as error:
        raise AdapterError(f"the model card {CARD} {error}: correct its header") from None
    words = read_text(card).lower()
    found = []
    if not record.backbone.licence and "license" not in header:
        found.append("the licence of the backbone: add license: to the header of README.md")
    if "datasets" not in header and "\n## data" not in words:
        found.append("where the images come from, and their terms: add datasets: to its header, or ## Data")
    if record.evaluation is None:
        found.append("how good it is: evaluate it with atha fit --eval, or atha add --eval")
    return found


def _left_out(saved: Saved, record: Record, own: bool) -> list[str]:
    found = []
    if SUPPORT in saved.record.sha256 and SUPPORT not in record.sha256:
        found.append(f"{SUPPORT}, small pictures and features of the support images: --support sends it")
    if saved.record.backbone.path is not None:
        found.append("the backbone's place on this machine")
    if saved.record.support.left_out or (saved.record.evaluation is not None and saved.record.evaluation.left_out):
        found.append("names of files that were not used")
    if own:
        found.append(f"nothing of {CARD}: it is not as atha wrote it, and is sent as it is")
    return found
