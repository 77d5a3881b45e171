"""What can be wrong with one image, said in a few words; whatever a library raises becomes such a problem."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from atha.errors import DataError

TRUNCATED = "the image is truncated or corrupt"


class ImageProblem(DataError):  # noqa: N818 - what a user reads in a report is a problem
    """An image that cannot be used.

    Attributes:
        path: The file, or a description of the image in memory.
        reason: What is wrong with it, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        # Both go to the base class, so that the exception survives pickling on its way out of a loader's process.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class BandsProblem(ImageProblem):
    """An image whose bands are not those that are wanted, or are not known: ``--bands`` may mend it."""


class TooLarge(ImageProblem):
    """An image that is more work than is allowed."""


class MissingExtra(ImageProblem):
    """An image that is read by a library that is not installed."""

    def __init__(self, path: str, what: str, extra: str) -> None:
        super().__init__(path, f"{what} is read with the extra '{extra}': pip install 'atha[{extra}]'")
        self.what, self.extra = what, extra

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.path, self.what, self.extra)


def two_labels(first: str, label: str, second: str, other: str) -> str:
    """What is wrong with one image that is in two classes.

    Args:
        first: name of one copy.
        label: of it.
        second: name of the other.
        other: label of that.
    """
    return f"{first} ({label}) and {second} ({other}) are the same image in two classes: remove one"


@contextmanager
def trouble_is(name: str, reason: str = TRUNCATED) -> Iterator[None]:
    """Turns any exception into an `ImageProblem`.

    Any: on damaged bytes Pillow raises OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError,
    OverflowError, zlib.error and more, and says nowhere which; other libraries do the same.
    """
    try:
        yield
    except ImageProblem:
        raise
    except MemoryError as error:
        raise ImageProblem(name, "there is not enough memory to decode the image") from error
    except Image.DecompressionBombError as error:
        raise TooLarge(name, "the image has too many pixels: make it smaller") from error
    except Exception as error:
        # Pillow's own OSErrors have no number; one with a number comes from the disk or the network.
        system = error.strerror if isinstance(error, OSError) and error.errno else None
        raise ImageProblem(name, f"cannot be read ({system})" if system else reason) from error
