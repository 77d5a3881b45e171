"""A model's files in Hugging Face format, in a folder or on the hub: the few that are read, and no others ever.

What a configuration says of other files or of code is not looked at. Weights are safetensors, of the usual names.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from atha.backbones import configuration, open_clip_files, tokenizer_files
from atha.backbones.folders import check_inside, check_keys
from atha.backbones.open_clip_tokenizer import CONFIG
from atha.backbones.processor_files import read_processor
from atha.backbones.tokenizer import read_tokenizer
from atha.data.processor import ImageProcessor
from atha.errors import BackboneError, is_fault, reason
from atha.texts import TextError, read_json

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_SMALL_FILES = (configuration.FILE, *_PROCESSOR_FILES, *tokenizer_files.FILES, tokenizer_files.SETTINGS)
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class Checkpoint:
    """The files of one model.

    Args:
        name: as the user gave it.
        folder: where the files are; None: on the hub.
        revision: branch, tag or commit of a hub model.
        local_files_only: of a hub model, what is on this machine; the hub is not asked.

    Attributes:
        folder: where the files are on this machine.
        commit: of a hub model.
        config: what is in ``config.json``.

    Raises:
        BackboneError: as all of its methods: a file is missing, damaged, leads outside the folder, or is out of reach.
    """

    def __init__(
        self, name: str, folder: Path | None = None, revision: str | None = None, local_files_only: bool = False
    ) -> None:
        self.name, self.local, self._offline = name, folder is not None, local_files_only
        self.folder = self._fetched(revision) if folder is None else folder
        self.commit = (
            None if self.local else self.folder.name
        )  # the cache keeps a commit's files in a folder of its name
        self.place = f"model folder {name}" if self.local else f"{name} on the model hub"
        if not (self.folder / configuration.FILE).is_file():
            if (self.folder / "atha.json").is_file():
                self._fail("has no config.json", "this is an adapter, use it with predict or evaluate")
            if (self.folder / CONFIG).is_file():
                self._fail("is one of open_clip", f"give it as {open_clip_files.FOLDER}{name}")
            self._fail("has no config.json", "give a folder in Hugging Face format")
        for file in _SMALL_FILES:
            check_inside(self.folder, file, self.place)
        try:
            self.config = read_json(self.folder / configuration.FILE)
        except TextError as error:
            raise BackboneError(self.damaged(f"{configuration.FILE} {error}")) from None
        check_keys(self.config, configuration.FILE, self.place)

    def check(self) -> None:
        """See to it that there is all that is small, and get the weights from the hub."""
        if not any((self.folder / file).is_file() for file in _PROCESSOR_FILES):
            self._fail("has no preprocessor_config.json", "save the model's image processor there")
        if not any((self.folder / file).is_file() for file in tokenizer_files.MAIN):
            self._fail("has no tokenizer", f"save the model's tokenizer there ({', '.join(tokenizer_files.MAIN)})")
        if not self.local and not self._download(_WEIGHTS) and self._download(_INDEX):
            for shard in self._shards():
                self._download(shard)

    def weight_files(self) -> Sequence[Path]:
        """The files of weights."""
        if (self.folder / _WEIGHTS).is_file():
            names: Iterable[str] = [_WEIGHTS]
        elif (self.folder / _INDEX).is_file():
            names = self._shards()
        else:
            pickled = sorted(path.name for path in self.folder.glob("*.bin"))
            if pickled:
                self._fail(
                    f"has its weights in {pickled[0]}, a pickle file, which is not opened",
                    "convert it to model.safetensors",
                )
            if self.local:
                self._fail("has no model.safetensors", "save the weights there")
            self._fail(
                "has no model.safetensors, and pickle files are not opened",
                "convert the weights in a folder and give that, or ask for a revision that has them, such as refs/pr/1",
            )
        for name in names:
            check_inside(self.folder, name, self.place)
            if not (self.folder / name).is_file():
                self._fail(f"has no {name}", "get the model again")
        return [self.folder / name for name in names]

    def weights(self, shapes: Mapping[str, torch.Size], needed_by: str) -> dict[str, Tensor]:
        """Weights in float32.

        Args:
            shapes: of all that are needed; others are not read.
            needed_by: what needs them, for errors.
        """
        weights: dict[str, Tensor] = {}
        misshapen = set()
        from safetensors import SafetensorError, safe_open

        try:
            for file in self.weight_files():
                with safe_open(file, "pt") as opened:
                    for key in shapes.keys() & set(opened.keys()):
                        if tuple(opened.get_slice(key).get_shape()) != tuple(shapes[key]):
                            misshapen.add(key)
                            continue
                        # A copy where it is float32 already: the file could change while it is mapped into memory.
                        weights[key] = opened.get_tensor(key).to(torch.float32, copy=True)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BackboneError(self.damaged(error)) from None
        self.check_whole(sorted(shapes.keys() - weights.keys() - misshapen) + sorted(misshapen), needed_by)
        return weights

    def check_whole(self, wrong: Sequence[str], needed_by: str) -> None:
        """See to it that no weight is missing or of another shape."""
        if wrong:
            raise BackboneError(
                f"{self.name} lacks {len(wrong)} of the weights that {needed_by} needs, or has them in another shape, "
                f"the first is '{wrong[0]}': get the whole checkpoint again"
            )

    def from_transformers(self, class_name: str) -> nn.Module:
        """A model of the library's own class, which is given configuration and weights, and no folder."""
        from safetensors.torch import load_file

        def make() -> Any:
            weights = {name: value for file in self.weight_files() for name, value in load_file(file).items()}
            with tokenizer_files.quiet() as transformers:
                family = getattr(transformers, class_name)
                # How attention is computed can be the name of code, too.
                settings = {key: value for key, value in self.config.items() if not key.endswith("_implementation")}
                return family.from_pretrained(
                    None,
                    config=family.config_class.from_dict(settings),
                    state_dict=weights,
                    dtype="float32",
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are refused below, by name
                )

        found: tuple[nn.Module, dict[str, Any]] = self._made(make)
        model, report = found
        wrong = sorted(report["missing_keys"]) + sorted(key for key, *_ in report["mismatched_keys"])
        self.check_whole(wrong, class_name)
        return model

    def tokenizer(self, rows: int) -> Any:
        """The tokenizer.

        Args:
            rows: of the text tower's vocabulary.
        """
        kind = self.config["model_type"]
        tokenizer = self._made(
            lambda: (
                (read_tokenizer(self.folder) if kind == "clip" else None)
                or tokenizer_files.load_tokenizer(self.folder, kind)
            )
        )
        if len(tokenizer) > rows:
            raise BackboneError(
                f"the tokenizer of {self.name} knows {len(tokenizer)} tokens and its text tower {rows}: the files are "
                "not of one model, get them again"
            )
        return tokenizer

    def image_processor(self) -> ImageProcessor:
        """The image processor."""
        return read_processor(self.folder)

    def damaged(self, error: BaseException | str) -> str:
        """A sentence on what is wrong with the files."""
        why = error if isinstance(error, str) else reason(error)
        if isinstance(error, ImportError):
            return f"{self.name} needs another library ({why}): install it"
        return f"{self.place} cannot be loaded ({why}): get the model again"

    def _made(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except BaseException as error:  # of transformers and of the libraries behind it, which raise what they like
            if isinstance(error, BackboneError) or not is_fault(error):
                raise
            raise BackboneError(self.damaged(error)) from None

    def _fail(self, problem: str, mend: str) -> NoReturn:
        raise BackboneError(f"{self.place} {problem}: {mend}")

    def _shards(self) -> list[str]:
        check_inside(self.folder, _INDEX, self.place)
        try:
            shards = set(read_json(self.folder / _INDEX)["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            self._fail(f"has a damaged {_INDEX}", "get the model again")
        for shard in shards:
            if not isinstance(shard, str) or Path(shard).name != shard or shard == "..":
                self._fail(f"names a weight file outside itself, '{shard}'", "get the model from a source you trust")
            if not shard.endswith(".safetensors"):
                self._fail(f"names a weight file that is not safetensors, '{shard}'", "convert it to model.safetensors")
        return sorted(shards)

    def _fetched(self, revision: str | None) -> Path:
        from huggingface_hub import snapshot_download

        try:
            return Path(
                snapshot_download(
                    self.name,
                    revision=revision,
                    allow_patterns=list(_SMALL_FILES),
                    local_files_only=self._offline,
                )
            )
        except Exception as error:  # of the network, of the hub, of its library
            raise BackboneError(self._unreachable(error)) from None

    def _download(self, file: str) -> bool:
        """Get a file of the same commit; returns whether there is one."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if (self.folder / file).is_file():
            return True
        try:
            hf_hub_download(self.name, file, revision=self.commit, local_files_only=self._offline)
        except LocalEntryNotFoundError as error:
            if file == _WEIGHTS and (self.folder / _INDEX).is_file():  # offline, and in the cache as shards
                return False
            raise BackboneError(self._unreachable(error)) from None
        except EntryNotFoundError:  # the repository is there, the file is not
            return False
        except Exception as error:  # of the network, of the hub, of its library
            raise BackboneError(self._unreachable(error)) from None
        return True

    def _unreachable(self, error: Exception) -> str:
        if self._offline:
            return f"{self.name} is not on this machine"
        return (
            f"cannot get {self.name} from the model hub ({reason(error)}): check the name and the network, or download "
            f"the model elsewhere and give its folder, or try --model nano, a small model that is built in; a model of "
            f"open_clip is {open_clip_files.HUB}{self.name}, or {open_clip_files.PREFIX}{self.name} if that is "
            "architecture and tag"
        )
