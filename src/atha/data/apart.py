"""Decoding in a process of its own, which can be ended: for images whose headers say that they may take long."""

import os
from pathlib import Path

from PIL import Image

from atha.data.budget import SECONDS, Limits
from atha.data.problems import ImageProblem
from atha.data.processes import BrokenOffError, TooLongError, answer, ask, asked, limit
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
    asked_for = {
        "path": os.fsencode(path.absolute()).hex(),
        "reading": reading.model_dump(mode="json"),
        "pixels": limits.pixels,
        "shrink": shrink,
    }
    try:
        said, content = ask(__name__, asked_for, SECONDS)
    except TooLongError:
        raise ImageProblem(str(path), f"takes more than {SECONDS} s to decode: save it again as JPEG or PNG") from None
    except BrokenOffError:
        raise ImageProblem(str(path), "cannot be decoded (its decoder broke off)") from None
    if "problem" in said:
        raise ImageProblem(str(path), said["problem"])
    size = said["width"], said["height"]
    if len(content) != 3 * size[0] * size[1]:
        raise ImageProblem(str(path), "cannot be decoded (its decoder broke off)")
    return Image.frombytes("RGB", size, content)


def main() -> None:
    """The other process: what is made goes as a line of JSON and the pixels."""
    wanted = asked()
    limits = Limits(wanted["pixels"])
    limit("RLIMIT_AS", limits.memory + _LIBRARIES)
    limit("RLIMIT_CPU", 8 * SECONDS)
    from atha.data.images import decode_here

    path = Path(os.fsdecode(bytes.fromhex(wanted["path"])))
    try:
        image = decode_here(path, Reading.model_validate(wanted["reading"]), limits, wanted["shrink"])
    except ImageProblem as problem:
        answer({"problem": problem.reason})
        return
    answer({"width": image.width, "height": image.height}, image.tobytes())
