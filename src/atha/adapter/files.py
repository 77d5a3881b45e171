"""An adapter on disk: one folder, written whole or not at all, checked when it is read. Safetensors and JSON only.

adapter_config.json, adapter_model.safetensors   LoRA, as PEFT reads it
atha.safetensors                                 strengths, context, class text features, anchors
recipe.json                                      the resolved recipe
classes.json                                     label -> class text, in order; what ``--classes`` takes
atha.json                                        backbone, support, run, evaluation; checksums of the files above
support.safetensors                              features and small pictures of the support images, where kept
README.md                                        the model card
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atha.classes import Classes
from atha.errors import AdapterError, AthaError, BackboneError
from atha.recipe import Recipe

if TYPE_CHECKING:  # a mistake in a path is told before anything is loaded
    from torch import Tensor

    from atha.adapter.support import SupportRecord
    from atha.backbones import Backbone

FORMAT = 1
RECORD, TENSORS, RECIPE, CLASSES, CARD = "atha.json", "atha.safetensors", "recipe.json", "classes.json", "README.md"
SUPPORT = "support.safetensors"
# What LoRA's tensors are called, in PEFT's file and among the others.
_LORA = "base_model."
LORA_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Saved:
    """What an adapter folder holds.

    Attributes:
        classes: labels and texts.
        recipe: the resolved one.
        tensors: LoRA's, under PEFT's names, and all others.
        record: backbone, support, run, evaluation.
        support: what is kept of the support set.
        lora_config: PEFT's adapter_config.json; None without LoRA.
    """

    classes: Classes
    recipe: Recipe
    tensors: "dict[str, Tensor]"
    record: dict[str, Any] = field(default_factory=dict)
    support: "SupportRecord | None" = None
    lora_config: str | None = None


def is_adapter(path: str | Path) -> bool:
    """Whether a folder claims to be an adapter."""
    return (Path(path) / RECORD).is_file()


def check_free(path: str | Path, overwrite: bool = False) -> None:
    """See to it, before any work, that an adapter can be written.

    Raises:
        AdapterError: something is there that would be lost, or the place cannot be written to.
    """
    target = Path(path)
    place = target.resolve()  # "new/.." is the folder that we are in, even before there is a "new"
    if target.is_symlink() and not target.exists():
        raise AdapterError(f"{target} is a link to nothing, choose another --out")
    if place.exists() and not place.is_dir():
        raise AdapterError(f"{target} is a file, choose another --out for the adapter's folder")
    if place.is_dir() and any(place.iterdir()):
        if not is_adapter(place):
            raise AdapterError(f"{target} is not empty and no adapter, choose another --out: nothing there is touched")
        if not overwrite:
            raise AdapterError(f"{target} holds an adapter already, choose another --out or pass --overwrite")
    parent = next(folder for folder in place.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise AdapterError(f"{parent} cannot be written to, choose another --out")


def write_adapter(path: str | Path, saved: Saved, card: str, overwrite: bool = False) -> None:
    """Write an adapter under a temporary name beside its place, then rename it.

    Args:
        path: the folder to make.
        saved: what to write.
        card: text of the model card.
        overwrite: replace an adapter that is there; it stays until the new one is whole.

    Raises:
        AdapterError: the folder is in use, or the disk is full or not writable.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    check_free(path, overwrite)
    target = Path(path).resolve()  # through a link: the folder behind it is replaced, not the link
    new: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        tensors = {name: value.detach().cpu().contiguous() for name, value in saved.tensors.items()}
        lora = {name: tensors.pop(name) for name in saved.tensors if name.startswith(_LORA)}
        save_file(tensors, new / TENSORS)
        if saved.lora_config is not None:
            (new / LORA_FILES[0]).write_text(saved.lora_config, "utf-8")
            save_file(lora, new / LORA_FILES[1], {"format": "pt"})
        if saved.support is not None:
            save_file(saved.support.to_tensors(), new / SUPPORT)
        _write_json(new / RECIPE, saved.recipe.model_dump(mode="json"))
        _write_json(new / CLASSES, dict(zip(saved.classes.labels, saved.classes.texts, strict=True)))
        (new / CARD).write_text(card, "utf-8", "backslashreplace")
        names = [TENSORS, RECIPE, CLASSES, *(LORA_FILES if saved.lora_config is not None else ())]
        names += [SUPPORT] if saved.support is not None else []
        checksums = {name: _checksum(new / name) for name in names}
        _write_json(new / RECORD, {"format": FORMAT, **saved.record, "sha256": checksums})
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors writes files that nobody else may read
        new.chmod(0o755)
        _replace(new, target)
    except (OSError, SafetensorError) as error:
        raise _unwritable(target, error) from error
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)  # after a success it has another name


def update_record(path: str | Path, record: dict[str, Any], card: str) -> None:
    """Renew an adapter's record and model card, each file replaced whole; weights stay as they are."""
    folder = Path(path)
    checksums = _read_json(folder, RECORD)["sha256"]
    for name, text in ((RECORD, _json({"format": FORMAT, **record, "sha256": checksums})), (CARD, card)):
        new: Path | None = None
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
            new = Path(temporary)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            new.chmod(0o644)
            new.replace(folder / name)
        except OSError as error:
            raise _unwritable(folder / name, error) from error
        finally:
            if new is not None:
                new.unlink(missing_ok=True)  # after a success it has another name


def read_adapter(path: str | Path) -> Saved:
    """Read an adapter and check it against its own record.

    Raises:
        AdapterError: no adapter, of a newer format, or with files missing, foreign or damaged; names the file.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise AdapterError(f"there is no adapter folder {folder}, check the path or make one with atha fit")
    if not is_adapter(folder):
        raise AdapterError(f"{folder} is no adapter, {RECORD} is missing: give the folder that atha fit --out made")
    record = _read_json(folder, RECORD)
    if record.get("format") != FORMAT:
        raise AdapterError(f"{folder} has format {record.get('format')!r} and this version reads {FORMAT}: update atha")
    if not all(isinstance(record.get(part, {}), dict) for part in ("backbone", "support", "run", "evaluation")):
        raise AdapterError(f"{folder / RECORD} is damaged, a part of it is no table: copy the adapter again")
    checksums = record.pop("sha256", None)
    if not isinstance(checksums, dict) or not {TENSORS, RECIPE, CLASSES} <= checksums.keys() <= {
        TENSORS, RECIPE, CLASSES, SUPPORT, *LORA_FILES,
    }:  # fmt: skip
        raise AdapterError(f"{folder / RECORD} is damaged, its list of files is not as written: save the adapter again")
    for name, expected in checksums.items():
        if not (folder / name).is_file():
            raise AdapterError(f"{folder} is not whole, {name} is missing: copy the adapter again or fit it again")
        if _checksum(folder / name) != expected:
            raise AdapterError(
                f"{folder / name} is not the file that was saved (damaged, edited or of another adapter): "
                "copy the adapter again or fit it again"
            )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from atha.adapter.support import SupportRecord

    support = None
    try:
        tensors = load_file(folder / TENSORS)
        if LORA_FILES[1] in checksums:
            tensors |= load_file(folder / LORA_FILES[1])
        if SUPPORT in checksums:
            support = SupportRecord.from_tensors(load_file(folder / SUPPORT))
    except (SafetensorError, KeyError, ValueError) as error:
        raise AdapterError(f"{folder} holds tensors that cannot be read ({error}): fit the adapter again") from None
    named = _read_json(folder, CLASSES)
    try:
        recipe = Recipe.check(_read_json(folder, RECIPE))
    except AthaError as error:
        raise AdapterError(f"{folder / RECIPE} is not valid ({error}): update atha or fit the adapter again") from None
    record.pop("format")
    return Saved(Classes(tuple(named), tuple(named.values())), recipe, tensors, record, support)


def load_backbone_of(saved: Saved, folder: Path, elsewhere: str | None = None) -> "Backbone":
    """The backbone that an adapter was made for.

    Args:
        saved: what the adapter's folder holds.
        folder: the adapter's, for messages.
        elsewhere: where the backbone is now, if not where it was.

    Raises:
        AdapterError: the record is incomplete, or the backbone is not found or another.
    """
    from atha.backbones import load_backbone

    try:
        made_for, _ = saved.record["backbone"], float(saved.record["run"]["logit_scale"])
        source = elsewhere or made_for["path"] or made_for["name"]
        fingerprint, revision = made_for["fingerprint"], made_for["revision"]
    except (KeyError, TypeError, ValueError):
        raise AdapterError(f"{folder} has an incomplete atha.json: copy the adapter again or fit it again") from None
    try:
        loaded = load_backbone(source, None if elsewhere else revision)
    except BackboneError as error:
        raise AdapterError(
            f"the backbone of {folder} cannot be loaded, say where it is with --model: {error}"
        ) from None
    if loaded.fingerprint() != fingerprint:
        raise AdapterError(
            f"{folder} was made for '{made_for['name']}' with other weights than those of '{source}': "
            "give the backbone that it was made for with --model"
        )
    return loaded


def describe_backbone(backbone: "Backbone") -> dict[str, Any]:
    """What an adapter's record says of its backbone."""
    from atha.backbones import licence

    described = backbone.describe()
    return {
        **{key: described[key] for key in ("name", "revision", "family", "parameters")},
        "path": backbone.location,
        "fingerprint": backbone.fingerprint(),
        "licence": licence(backbone),
    }


def _replace(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; what was there is deleted after that, and put back if the renaming fails."""
    if not target.exists():
        new.replace(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.replace(old)
    except BaseException:
        old.rmdir()  # refused, should the adapter be in it already
        raise
    try:
        new.replace(target)
    except BaseException:
        old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _unwritable(place: Path, error: Exception) -> AdapterError:
    reason = getattr(error, "strerror", None) or error
    return AdapterError(f"cannot write {place} ({reason}), free space or choose another --out")


def _json(content: Any) -> str:
    # A file name need not be text; what is not becomes an escape that JSON reads back as it was.
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def _write_json(path: Path, content: Any) -> None:
    path.write_text(_json(content), "utf-8")


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"{folder / name} cannot be read ({error}): copy the adapter again or fit it again"
        ) from None
    if not isinstance(content, dict):
        raise AdapterError(f"{folder / name} is damaged, it holds no table: copy the adapter again or fit it again")
    return content


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
