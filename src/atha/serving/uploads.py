"""Images of a request: taken in within limits, then decoded beside the event loop, each with its own problem."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from atha import machine
from atha.data.problems import ImageProblem, TooLarge
from atha.serving.limits import ServiceLimits
from atha.serving.models import Model
from atha.web.refusals import Refusal

Made = TypeVar("Made")

_HOW = "send images as files of multipart/form-data, such as curl -F image=@photo.jpg"
_LONGEST_NAME = 200
# Of what is no file in a form; nothing of it is used.
_FIELDS, _FIELD_BYTES = 8, 4096
# Some images are decoded in a process of their own, for seconds: the others go on beside them.
_FEWEST_THREADS = 4
_CHUNK = 1 << 20


class _Form(MultiPartParser):
    spool_max_size = 1 << 16  # what is larger waits on the disk
    whole = False

    def on_end(self) -> None:
        """The last boundary."""
        self.whole = True


@dataclass(frozen=True)
class Problem:
    """Why one image has no answer.

    Attributes:
        status: of HTTP, if all images of the request are like that.
        sentence: what is wrong with it.
    """

    status: int
    sentence: str


async def read_images(request: Request, limits: ServiceLimits, most: int) -> FormData:
    """The form of a request, which holds images and nothing else; to be closed.

    Args:
        request: whose body was not read yet.
        limits: of the service.
        most: images.

    Raises:
        Refusal: it is of another type, holds too many or something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(415, f"a request of type '{kind[:60] or 'none'}' is not read: {_HOW}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "a request that is compressed is not read: send images as they are")
    parser = _Form(
        request.headers, request.stream(), max_files=most + 1, max_fields=_FIELDS, max_part_size=_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:  # older versions of starlette let the second through
        if "Too many files" in str(error):
            raise _too_many(most) from None
        raise Refusal(400, f"the form cannot be read ({str(error).rstrip('.')}): {_HOW}") from None
    try:
        if not parser.whole:
            raise Refusal(400, f"the form ends before its last boundary: {_HOW}")
        _check(form, most)
    except Refusal:
        await form.close()
        raise
    return form


def _check(form: FormData, most: int) -> None:
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise Refusal(422, f"the field '{name[:60]}' is no file, and no path or address is read: {_HOW}")
    if not form:
        raise Refusal(422, f"the request holds no image: {_HOW}")
    if len(form.multi_items()) > most:
        raise _too_many(most)


def _too_many(most: int) -> Refusal:
    return Refusal(413, f"a request has at most {most} image{'s' if most > 1 else ''}: send the others in another one")


def files(form: FormData) -> list[UploadFile]:
    """Those of a form, in order."""
    return [value for _, value in form.multi_items() if isinstance(value, UploadFile)]


def name_of(file: UploadFile) -> str:
    """What the sender calls it; it is never opened by that name."""
    name = file.filename or ""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


class Decoders:
    """Threads that read images.

    Args:
        model: says what is made of them.
        limits: of the service.
    """

    def __init__(self, model: Model, limits: ServiceLimits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(
            max(machine.cores(), _FEWEST_THREADS), "atha-decode", initializer=model.prepare_thread
        )

    def stop(self) -> None:
        """End, when what is being read is read."""
        self._pool.shutdown(cancel_futures=True)

    async def use(self, upload: UploadFile, make: Callable[[Path], Made]) -> Made | Problem:
        """What is made of an image's file, or what is wrong with the image.

        Args:
            upload: the file.
            make: given its place on the disk, which is gone when it returns.
        """
        if (upload.size or 0) > self._limits.image_bytes:
            most = f"{self._limits.image_bytes:,}"
            return Problem(413, f"the file has {upload.size:,} bytes, the limit is {most}: make the image smaller")
        return await asyncio.get_running_loop().run_in_executor(self._pool, _used, upload.file, make)


def _used(content: BinaryIO, make: Callable[[Path], Made]) -> Made | Problem:
    opened, place = tempfile.mkstemp(prefix="atha-image-")
    path = Path(place)
    try:
        with os.fdopen(opened, "wb") as file:
            content.seek(0)
            while part := content.read(_CHUNK):
                file.write(part)
        return make(path)
    except ImageProblem as problem:
        reason = problem.reason.replace(str(path), "the image")
        return Problem(413 if isinstance(problem, TooLarge) else 422, reason)
    finally:
        with suppress(OSError):
            path.unlink()
