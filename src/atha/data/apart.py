"""Decoding in a process of its own, which can be ended: for images whose headers say that they may take long.

A new Python costs a fraction of a second, so that others are not decoded so.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from atha.data.budget import SECONDS, Limits
from atha.data.problems import ImageProblem
from atha.data.reading import Reading

# What Python and its libraries map, on top of what decoding may take.
_LIBRARIES = 3 << 30


def decode_apart(path: Path, reading: Reading, limits: Limits, shrink: int) -> Image.Image:
    """What `atha.data.images.open_image` gives, with an end.

    Args:
        path: of the file.
        reading: of the data set.
        limits: of pixels.
        shrink: factor by which it is made smaller.

    Raises:
        ImageProblem: as in this process; or it takes too long.
    """
    asked = {
        "path": os.fsencode(path.absolute()).hex(),
        "reading": reading.model_dump(mode="json"),
        "pixels": limits.pixels,
        "shrink": shrink,
    }
    command = [sys.executable, "-P", "-c", "from atha.data.apart import main; main()"]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and no shell
            command, input=json.dumps(asked).encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ImageProblem(str(path), f"takes more than {SECONDS} s to decode: save it again as JPEG or PNG") from None
    first, _, content = done.stdout.partition(b"\n")
    try:
        said: dict[str, Any] = json.loads(first)
    except ValueError:
        raise ImageProblem(str(path), "cannot be decoded (its decoder broke off)") from None
    if "problem" in said:
        raise ImageProblem(str(path), said["problem"])
    size = said["width"], said["height"]
    if len(content) != 3 * size[0] * size[1]:
        raise ImageProblem(str(path), "cannot be decoded (its decoder broke off)")
    return Image.frombytes("RGB", size, content)


def main() -> None:
    """The other process: what is asked comes as JSON, what is made goes as a line of JSON and the pixels."""
    asked = json.loads(sys.stdin.buffer.read())
    limits = Limits(asked["pixels"])
    _limit(limits.memory + _LIBRARIES)
    from atha.data.images import decode_here

    out = sys.stdout.buffer
    path = Path(os.fsdecode(bytes.fromhex(asked["path"])))
    try:
        image = decode_here(path, Reading.model_validate(asked["reading"]), limits, asked["shrink"])
    except ImageProblem as problem:
        out.write(json.dumps({"problem": problem.reason}).encode() + b"\n")
        return
    out.write(json.dumps({"width": image.width, "height": image.height}).encode() + b"\n")
    out.write(image.tobytes())


def _limit(memory: int) -> None:
    """Ends this process by itself, should nobody be left to do it."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (8 * SECONDS, 8 * SECONDS))
