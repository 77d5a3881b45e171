"""What was saved, changed as a test wants it."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from atha.adapter.record import RECORD


def change_tensors(folder: Path, file: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a file of an adapter, with a checksum that fits them: only loading itself can tell."""
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)
    record = json.loads((folder / RECORD).read_text())
    record["sha256"][file] = sha256((folder / file).read_bytes()).hexdigest()
    (folder / RECORD).write_text(json.dumps(record))
