"""CLIP's tokenizer from tokenizer.json, by the library `tokenizers` alone, which transformers' own run on.

Importing transformers takes longer than all that a class text needs. What is made here gives the token ids that
transformers gives; files of which that is not known for certain are left to it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atha.backbones.patterns import check_patterns
from atha.texts import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
# Classes that take the file as it is, and the one that takes only vocabulary, merges and ends of a text from it.
_AS_IT_IS = ("TokenizersBackend", "PreTrainedTokenizerFast")
_CLIP = ("CLIPTokenizer", "CLIPTokenizerFast")
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Settings of tokenizer_config.json: those that change no token of a text, and those that do not with one value.
_HARMLESS = {
    "backend", "clean_up_tokenization_spaces", "do_lower_case", "errors", "is_local", "local_files_only",
    "model_max_length", "name_or_path", "processor_class", "special_tokens_map_file", "tokenizer_class",
}  # fmt: skip
_USUAL = {"add_prefix_space": False, "padding_side": "right"}


class FileTokenizer:
    """What a CLIP's text needs of transformers' tokenizers, called in the same way.

    Args:
        tokenizer: of the library.
        end: the id of the token that ends a text.
        padding: the id of the token behind it.
    """

    def __init__(self, tokenizer: "Tokenizer", end: int, padding: int) -> None:
        self._tokenizer, self.eos_token_id, self.pad_token_id = tokenizer, end, padding

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def __call__(
        self,
        texts: Sequence[str],
        padding: bool = False,
        truncation: bool = False,
        add_special_tokens: bool = True,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> dict[str, Any]:
        """Token ids of texts.

        Args:
            texts: any.
            padding: to the longest text, at its end.
            truncation: not known here, texts are never cut.
            add_special_tokens: with the tokens that begin and end a text.
            return_tensors: ``pt`` or None: lists.
            verbose: nothing is ever said.
        """
        assert not truncation
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        ids = [one.ids for one in found]
        if padding:
            longest = max(map(len, ids), default=0)
            ids = [[*one, *[self.pad_token_id] * (longest - len(one))] for one in ids]
        return {"input_ids": torch.tensor(ids, dtype=torch.long) if return_tensors else ids}


def read_tokenizer(folder: Path) -> FileTokenizer | None:
    """The tokenizer of a CLIP's folder; None: transformers may make other tokens of its files.

    Raises:
        BackboneError: the file has a pattern that can take forever.
        Exception: of the library, of a damaged file.
    """
    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.is_file() or not settings.is_file() or (folder / "added_tokens.json").exists():
        return None
    config = read_json(settings)
    kind = config.get("tokenizer_class")
    if kind not in (*_AS_IT_IS, *_CLIP):
        return None

    check_patterns(file)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    added = tokenizer.get_added_tokens_decoder()
    named = _named(folder, config)
    if kind in _CLIP:
        named = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END} | named
    whole = tokenizer.post_processor is not None and tokenizer.padding is None and tokenizer.truncation is None
    if not whole or not _is_plain(config, set(named.values()), added):
        return None
    if kind in _CLIP and not _as_clip(tokenizer, named["unk_token"]):
        return None
    end, padding = (tokenizer.token_to_id(named.get(name, "")) for name in ("eos_token", "pad_token"))
    return None if end is None or padding is None else FileTokenizer(tokenizer, end, padding)


def _named(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Contents of the tokens that have a name."""
    said = {name: config[name] for name in _NAMED if config.get(name) is not None}
    others = folder / "special_tokens_map.json"
    if others.is_file() and "added_tokens_decoder" not in config:
        said |= read_json(others)
    return {name: str(value.get("content") if isinstance(value, dict) else value) for name, value in said.items()}


def _is_plain(config: dict[str, Any], named: set[str], added: dict[int, Any]) -> bool:
    """Whether all that is said beside tokenizer.json is in it, too."""
    fields = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    known = {str(key): {name: getattr(token, name) for name in fields} for key, token in added.items()}
    rest = {key: value for key, value in config.items() if key not in (*_NAMED, *_HARMLESS)}
    decoder = rest.pop("added_tokens_decoder", known)
    return (
        decoder == known
        and named <= {token.content for token in added.values()}
        and all(token.special for token in added.values())
        and all(not value if key == "extra_special_tokens" else _USUAL.get(key) == value for key, value in rest.items())
    )


def _as_clip(tokenizer: "Tokenizer", unknown: str) -> bool:
    """Let it read words as CLIP does, whatever the file says; whether its vocabulary is one of CLIP's kind."""
    from tokenizers import Regex, models, normalizers, pre_tokenizers

    model = tokenizer.model
    if not isinstance(model, models.BPE):
        return False
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    special = (model.dropout, model.unk_token, model.continuing_subword_prefix or "", model.end_of_word_suffix)
    return special == (None, unknown, "", "</w>") and not (model.fuse_unk or model.byte_fallback or model.ignore_merges)
