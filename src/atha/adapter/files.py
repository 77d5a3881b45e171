"""An adapter on disk: one folder, written whole or not at all, checked when it is read. Safetensors and JSON only.

adapter_config.json, adapter_model.safetensors   LoRA, as PEFT reads it
atha.safetensors                                 strengths, context, class text features, anchors; or another kind's
recipe.json                                      the resolved recipe
classes.json                                     label -> class text, in order; what ``--classes`` takes
atha.json                                        backbone, support, run, evaluation; checksums of the files above
support.safetensors                              features and small pictures of the support images, where kept
README.md                                        the model card
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atha.adapter.hub import CARD, is_named, on_this_machine
from atha.adapter.record import (
    CLASSES,
    LORA_FILES,
    RECIPE,
    RECORD,
    SUPPORT,
    TENSORS,
    Record,
    incomplete,
    parse_record,
    to_json,
)
from atha.classes import Classes
from atha.data.finding import kind_of
from atha.durable import tidy
from atha.errors import AdapterError, AthaError, BackboneError, DataError
from atha.files import check_folder_free, whole_folder
from atha.recipe import Recipe
from atha.texts import LISTS, TextError, decode, json_table, read_bytes

if TYPE_CHECKING:  # a mistake in a path is told before anything is loaded
    from torch import Tensor

    from atha.adapter.support import SupportRecord
    from atha.backbones import Backbone

# Bytes of a file of tensors that are read, far above what any support set makes.
_TENSORS = 1 << 32
# What LoRA's tensors are called, in PEFT's file and among the others.
LORA = "base_model."


@dataclass(frozen=True)
class Saved:
    """What an adapter folder holds.

    Attributes:
        folder: where it is, or is to be.
        classes: labels and texts.
        recipe: the resolved one.
        tensors: LoRA's, under PEFT's names, and all others.
        record: backbone, support, run, evaluation.
        support: what is kept of the support set.
        lora_config: PEFT's adapter_config.json; None without LoRA, and of an adapter that was read.
    """

    folder: Path
    classes: Classes
    recipe: Recipe
    tensors: "dict[str, Tensor]"
    record: Record
    support: "SupportRecord | None" = None
    lora_config: str | None = None


def is_adapter(path: str | Path) -> bool:
    """Whether a folder claims to be an adapter, once what a kill left beside it is finished or removed.

    A name that begins with ``hub:`` does, and is not asked for yet.
    """
    if is_named(path):
        return True
    tidy(Path(path).resolve().parent)
    return kind_of(Path(path) / RECORD) == "file"


def check_free(path: str | Path, overwrite: bool = False) -> None:
    """See to it, before any work, that an adapter can be written.

    Raises:
        AdapterError: something is there that would be lost, or the place cannot be written to.
    """
    if is_named(path):
        raise AdapterError(
            f"{path} is on the model hub, and --out is a folder: choose one, then send it with atha push"
        )
    check_folder_free(Path(path), overwrite, "adapter", is_adapter)


def write_adapter(saved: Saved, card: str, overwrite: bool = False) -> None:
    """Write an adapter under a temporary name beside its place, then rename it.

    Args:
        saved: what to write.
        card: text of the model card.
        overwrite: replace an adapter that is there; it stays until the new one is whole.

    Raises:
        AdapterError: the folder is in use, or the disk is full or not writable.
    """
    check_free(saved.folder, overwrite)
    with whole_folder(saved.folder) as new:
        tensors = {name: value.detach().cpu().contiguous() for name, value in saved.tensors.items()}
        names = [TENSORS, RECIPE, CLASSES]
        if saved.lora_config is not None:
            lora = {name: tensors.pop(name) for name in saved.tensors if name.startswith(LORA)}
            (new / LORA_FILES[0]).write_text(saved.lora_config, "utf-8")
            _write_tensors(new / LORA_FILES[1], lora, {"format": "pt"})
            names += LORA_FILES
        _write_tensors(new / TENSORS, tensors)
        if saved.support is not None:
            _write_tensors(new / SUPPORT, saved.support.to_tensors())
            names.append(SUPPORT)
        (new / RECIPE).write_text(to_json(saved.recipe.model_dump(mode="json")), "utf-8")
        classes = dict(zip(saved.classes.labels, saved.classes.texts, strict=True))
        (new / CLASSES).write_text(to_json(classes), "utf-8")
        (new / CARD).write_text(card, "utf-8", "backslashreplace")
        checksums = {name: _checksum((new / name).read_bytes()) for name in names}
        (new / RECORD).write_text(saved.record.model_copy(update={"sha256": checksums}).to_json(), "utf-8")


def update_record(path: str | Path, record: Record, card: str) -> None:
    """Renew an adapter's record and model card, both in one step; weights stay as they are.

    Raises:
        AdapterError: the folder is no adapter, holds another one by now, or cannot be replaced.
    """
    folder = Path(path)
    there = _read_record(folder)
    renewed = record.model_copy(update={"sha256": there.sha256})
    if there.model_copy(update={"evaluation": record.evaluation}) != renewed:
        raise AdapterError(f"{folder} holds another adapter by now: save this one again, to another folder")
    with whole_folder(folder, keep=True) as new:
        for name, text in ((RECORD, renewed.to_json()), (CARD, card)):
            (new / name).unlink(missing_ok=True)  # a link to the old one's content
            (new / name).write_text(text, "utf-8", "backslashreplace")
            (new / name).chmod(0o644)


def read_adapter(path: str | Path) -> Saved:
    """Read an adapter and check it against its own record; each file is read once.

    One that is replaced by another process while it is read, is read again. All that takes an adapter reads it here:
    ``hub:ORG/NAME[@REVISION]`` comes from the model hub first, see `atha.adapter.hub`.

    Raises:
        AdapterError: no adapter, of a newer format, or with files missing, foreign or damaged; names the file.
    """
    folder = on_this_machine(path)
    if not is_adapter(folder):
        if not folder.is_dir():
            raise AdapterError(f"there is no adapter folder {folder}, check the path or make one with atha fit")
        raise AdapterError(f"{folder} is no adapter, {RECORD} is missing: give the folder that atha fit --out made")
    while True:
        before = _identity(folder)
        try:
            return _read_whole(folder)
        except AdapterError:
            if _identity(folder) == before:
                raise


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from one that took its place."""
    try:
        there = folder.stat()
    except OSError:
        return None
    return there.st_ino, there.st_mtime_ns


def _read_whole(folder: Path) -> Saved:
    record = _read_record(folder)
    files = {}
    for name, expected in record.sha256.items():
        if not (folder / name).is_file():
            raise AdapterError(f"{folder} is not whole, {name} is missing: copy the adapter again or fit it again")
        files[name] = _read(folder / name)
        if _checksum(files[name]) != expected:
            raise _damaged(folder / name, "is not the file that was saved (damaged, edited or of another adapter)")
    classes = _classes(folder / CLASSES, files[CLASSES])
    if record.support.counts.keys() != set(classes.labels):
        raise incomplete(folder)
    content = _table(folder / RECIPE, files[RECIPE])
    try:
        recipe = Recipe.check(content)
    except AthaError as error:
        raise AdapterError(f"{folder / RECIPE} is not valid ({error}): update atha or fit the adapter again") from None
    tensors, support = _tensors(folder, files, record, classes)
    return Saved(folder, classes, recipe, tensors, record, support)


def load_backbone_of(saved: Saved, elsewhere: str | None = None, download: bool = False) -> "Backbone":
    """The backbone that an adapter was made for.

    Args:
        saved: what the adapter's folder holds.
        elsewhere: where the backbone is now, if not where it was.
        download: whether a model hub may be asked for what the adapter names; for ``elsewhere`` it always may.

    Raises:
        AdapterError: the backbone is not found or another.
    """
    from atha.backbones import load_backbone

    made_for = saved.record.backbone
    source = elsewhere or made_for.path or made_for.name
    if not elsewhere and source.startswith(("\\\\", "//")):
        raise AdapterError(f"{saved.folder} names a backbone on another machine, {source}: give it with --model")
    try:
        loaded = load_backbone(
            source,
            made_for.revision if source == made_for.name else None,
            local_files_only=not elsewhere and not download,
        )
    except BackboneError as error:
        if elsewhere:
            raise AdapterError(
                f"the backbone of {saved.folder} cannot be loaded from --model {elsewhere}: {error}"
            ) from None
        mend = "say where it is with --model" + ("" if download else ", or let it come with --download")
        raise AdapterError(f"the backbone of {saved.folder} cannot be loaded, {mend}: {error}") from None
    if loaded.fingerprint() != made_for.fingerprint:
        raise AdapterError(
            f"{saved.folder} was made for '{made_for.name}' with other weights than those of '{source}': "
            "give the backbone that it was made for with --model"
        )
    return loaded


def _classes(path: Path, content: bytes) -> Classes:
    try:
        return Classes.given(_table(path, content))
    except DataError as error:
        raise _damaged(path, f"cannot be used, {error}") from None


def _tensors(
    folder: Path, files: "dict[str, bytes]", record: Record, classes: Classes
) -> "tuple[dict[str, Tensor], SupportRecord | None]":
    """Those of all files; what is kept of the support set is checked against what is said of it."""
    from atha.adapter.support import SupportRecord
    from atha.tensors import TensorError, parse_tensors

    tensors: dict[str, Tensor] = {}
    support = None
    for name in files.keys() & {TENSORS, LORA_FILES[1], SUPPORT}:
        try:
            found = parse_tensors(files[name], may_lack=("bias",))
            if name == SUPPORT:
                support = SupportRecord.from_tensors(found)
                support.check([record.support.counts[label] for label in classes.labels], record.support.sha256)
                continue
            if strange := [key for key in found if key.startswith(LORA) != (name != TENSORS)]:
                raise TensorError("belongs to another file", min(strange))
        except TensorError as error:
            raise _damaged(folder / name, f"is damaged, {error}") from None
        tensors |= found
    return tensors, support


def _write_tensors(path: Path, tensors: "dict[str, Tensor]", about: dict[str, str] | None = None) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, about)
    except SafetensorError as error:  # what the system said is in its text alone
        raise OSError(str(error)) from error


def _read_record(folder: Path) -> Record:
    return parse_record(_table(folder / RECORD, _read(folder / RECORD)), folder)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, LISTS if path.suffix == ".json" else _TENSORS)
    except TextError as error:
        raise _damaged(path, str(error)) from None


def _table(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return json_table(decode(content))
    except TextError as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, problem: str) -> AdapterError:
    return AdapterError(f"{path} {problem}: copy the adapter again or fit it again")


def _checksum(content: bytes) -> str:
    return sha256(content).hexdigest()
