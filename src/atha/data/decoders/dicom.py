"""DICOM, the format of clinics, through pydicom (extra ``dicom``): the first frame, as a viewer shows it."""

import logging
from collections.abc import Callable
from functools import cache
from io import BufferedReader, BytesIO
from typing import Any, BinaryIO
from zlib import MAX_WBITS, decompress

import numpy as np
from numpy.typing import NDArray

from atha.data import headers
from atha.data.budget import Limits
from atha.data.problems import TRUNCATED, ImageProblem, MissingExtra, trouble_is
from atha.data.samples import STRIP, Samples, rows_of

# It logs what it finds odd in files; whatever matters of that is said in our words.
logging.getLogger("pydicom").addHandler(logging.NullHandler())

_DEFLATED, _PLAIN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"
_DEFLATE_RATIO = 1032  # at most
# Before the group that says how the others are written, whose length is the value of its first element.
_META = 144
# By which a header is read: pydicom takes two or three for each element, and an image has some hundreds of those.
_READS = 200_000


def open_dicom(name: str, file: BufferedReader, limits: Limits) -> Samples:
    """An image with rescaling and window applied, as far as the file has them.

    Args:
        name: for messages.
        file: at its beginning.
        limits: of pixels.

    Raises:
        ImageProblem: there is no image in it, or it is damaged or compressed in a way that is not read.
        MissingExtra: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingExtra(name, "DICOM", "dicom") from None
    with trouble_is(name):
        plain = _inflated(name, file, limits)
        dataset = pydicom.dcmread(_Bounded(name, plain), stop_before_pixels=True)
        size = int(dataset.get("Columns", 0)), int(dataset.get("Rows", 0))
        modality = str(dataset.get("Modality", ""))[:16]
    if min(size) < 1:
        raise ImageProblem(name, f"is a DICOM file without an image{f' ({modality})' if modality else ''}")
    limits.check(name, size)
    with trouble_is(name):
        slow = _check_compression(name, plain, dataset, size)  # begins where reading ended, at the pixels
        return _frame(name, plain, dataset, size, slow)


class _Bounded:
    """A file that is read so often and no more: elements of a few bytes would keep pydicom busy for as long as they go.

    Args:
        name: for messages.
        file: at its beginning.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file, self._left = name, file, _READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """See files.

        Raises:
            ImageProblem: it was read too often.
        """
        self._left -= 1
        if self._left < 0:
            raise ImageProblem(self._name, "its header has too many elements, it would take too long: save it as PNG")
        return self._file.read(size)


def _inflated(name: str, file: BufferedReader, limits: Limits) -> BinaryIO:
    """The file at its beginning; of one that is deflated, what it would be without."""
    head = file.read(4096)
    size = file.seek(0, 2)
    file.seek(0)
    if _DEFLATED not in head:
        return file
    if size * _DEFLATE_RATIO > limits.memory:
        raise ImageProblem(name, "is a large deflated DICOM file: save it without, or as TIFF")
    start = _META + int.from_bytes(head[_META - 4 : _META], "little")
    content = file.read()
    return BytesIO(content[:start].replace(_DEFLATED, _PLAIN) + decompress(content[start:], -MAX_WBITS))


def _check_compression(name: str, file: BinaryIO, dataset: Any, size: tuple[int, int]) -> bool:
    """See that the pixels can be decoded; returns whether that may take long."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return False
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise ImageProblem(name, f"is DICOM with {syntax.name}, which is not read: save it uncompressed") from None
    if not available:
        raise ImageProblem(
            name, f"is DICOM compressed as {syntax.name}, for which pydicom wants a plugin: pip install python-gdcm"
        )
    if file.read(12)[:4] != b"\xe0\x7f\x10\x00":
        raise ImageProblem(name, TRUNCATED)
    frame = get_frame(file, 0, number_of_frames=int(dataset.get("NumberOfFrames", None) or 1))
    if frame[:2] == b"\xff\xd8":
        if reason := headers.too_many_scans(frame, 2, size):
            raise ImageProblem(name, reason)
        return False
    found = headers.jpeg_2000(BytesIO(frame))
    return found is not None and (found.slow or found.size != size)


def _frame(name: str, file: BinaryIO, dataset: Any, size: tuple[int, int], slow: bool) -> Samples:
    """The first frame."""
    from pydicom.pixels import apply_color_lut, pixel_array

    meaning = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    samples, palette = int(dataset.get("SamplesPerPixel", 1)), meaning == "PALETTE COLOR"
    floating = "BitsStored" not in dataset
    bits = int(dataset.get("BitsStored", dataset.get("BitsAllocated", 16)))
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    bytes_each = max(1, int(dataset.get("BitsAllocated", 8)) // 8)

    @cache
    def pixels() -> NDArray[Any]:
        with trouble_is(name):
            file.seek(0)
            found = np.asarray(pixel_array(file, index=0))
            found = np.asarray(apply_color_lut(found, dataset)) if palette else found
            found = found if found.ndim == 3 else found[..., None]
            if found.shape[:2] != (size[1], size[0]):
                raise ImageProblem(name, TRUNCATED)
            return found

    convert: Callable[[NDArray[Any]], NDArray[Any]] = lambda strip: strip  # noqa: E731
    dtype: np.dtype[Any] = _stored(bytes_each, signed, floating)
    fixed: tuple[float, float] | None = None
    full: float | None = None
    nodata: float | None = None
    bands = 3 if palette else samples
    if palette:  # its table says the depth
        deep = int(dataset.RedPaletteColorLookupTableDescriptor[2]) > 8
        dtype = np.dtype(np.uint16 if deep else np.uint8)
        fixed = (0.0, 65535.0 if deep else 255.0)
    elif samples == 1:
        convert, dtype, slope, intercept = _rescaling(dataset, dtype)
        convert, dtype, fixed = _window(dataset, convert, dtype)
        plain = (slope, intercept) == (1, 0) and not signed and not floating
        if plain:
            full = float(2**bits - 1)
            fixed = (0.0, full) if fixed is None and bits <= 8 else fixed
        if (padding := dataset.get("PixelPaddingValue")) is not None and fixed is None:
            nodata = float(padding) * slope + intercept

    return Samples(
        name, size, bands, dtype, lambda wanted: map(convert, rows_of(pixels(), wanted)),
        (0,) if bands == 1 else (0, 1, 2),
        (4 * bytes_each * samples + (12 if palette else 0)) * size[0] * size[1] + 96 * STRIP,
        nodata=nodata, inverted=meaning == "MONOCHROME1", fixed=fixed, full=full,
        close=pixels.cache_clear, slow=slow,
    )  # fmt: skip


def _stored(bytes_each: int, signed: bool, floating: bool) -> np.dtype[Any]:
    return np.dtype(f"{'f' if floating else 'i' if signed else 'u'}{bytes_each}")


def _rescaling(
    dataset: Any, dtype: np.dtype[Any]
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], np.dtype[Any], float, float]:
    """From stored values to those that the modality means, such as Hounsfield units."""
    from pydicom.pixels import apply_modality_lut

    exact: np.dtype[Any] = np.dtype(np.float64)
    if "ModalityLUTSequence" in dataset:
        return lambda strip: np.asarray(apply_modality_lut(strip, dataset)).astype(exact), exact, 1.0, 0.0
    found = _group(dataset, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = float(found.get("RescaleSlope", 1) or 1), float(found.get("RescaleIntercept", 0) or 0)
    if (slope, intercept) == (1.0, 0.0):
        return lambda strip: strip, dtype, slope, intercept
    if slope.is_integer() and intercept.is_integer() and dtype.kind != "f" and abs(slope) < 2**14:
        whole = np.dtype(np.int32)
        return lambda strip: strip.astype(whole) * int(slope) + int(intercept), whole, slope, intercept
    return lambda strip: strip.astype(exact) * slope + intercept, exact, slope, intercept


def _window(
    dataset: Any, convert: Callable[[NDArray[Any]], NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], np.dtype[Any], tuple[float, float] | None]:
    """The values that the file's first window or table shows as black and white."""
    from pydicom.pixels import apply_voi

    found = _group(dataset, "FrameVOILUTSequence", "WindowCenter")
    if "VOILUTSequence" in dataset:
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        made = np.dtype(np.float64)
        return lambda strip: np.asarray(apply_voi(convert(strip), dataset)).astype(made), made, (0.0, 2.0**depth - 1)
    center, width = _first(found.get("WindowCenter")), _first(found.get("WindowWidth"))
    if center is None or width is None or width < 1:
        return convert, dtype, None
    shape = str(found.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if shape == "SIGMOID":
        made = np.dtype(np.float64)
        return lambda strip: 1 / (1 + np.exp(-4 * (convert(strip).astype(made) - center) / width)), made, (0.0, 1.0)
    if shape == "LINEAR_EXACT":
        return convert, dtype, (center - width / 2, center + width / 2)
    # The standard's window of whole numbers (PS3.3 C.11.2.1.2.1): its edges lie half a value further in.
    low = center - 0.5 - (width - 1) / 2
    return convert, dtype, (low, max(low + 1e-6, low + width - 1))


def _group(dataset: Any, sequence: str, key: str) -> Any:
    """Where a value is: in the file itself, or in what is said of all frames or of the first."""
    if key in dataset:
        return dataset
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        if dataset.get(groups) and dataset[groups].value[0].get(sequence):
            return dataset[groups].value[0][sequence].value[0]
    return dataset


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) or not hasattr(value, "__getitem__") else value[0])
