"""Files of kinds that Pillow does not write, of pictures whose right answer is known."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage


def picture(size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """(H, W, 3) uint8, smooth, with black and white in it."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return np.rint(np.stack([x, y, (x + y) / 2], axis=-1)).astype(np.uint8)


def grey(size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """(H, W) uint8."""
    return picture(size)[..., 2]


def dicom(path: Path, pixels: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **values: object) -> Path:
    """A DICOM file of grey (H, W), colour (H, W, 3), or frames (F, H, W) where NumberOfFrames is among the values."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    frame = pixels[0] if "NumberOfFrames" in values else pixels
    made.Modality, made.Rows, made.Columns = "OT", *frame.shape[:2]
    made.SamplesPerPixel = 1 if frame.ndim == 2 else 3
    if frame.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = "MONOCHROME2" if frame.ndim == 2 else "RGB"
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    for key, value in values.items():
        setattr(made, key, value)
    made.HighBit = made.BitsStored - 1
    made.PixelData = pixels.tobytes()
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def png_of_zeros(path: Path, side: int, depth: int, colour: int, channels: int) -> Path:
    """A square PNG whose every value is 0, of any size in few bytes and little memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), bytes(1 + side * channels * depth // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


def with_scans(path: Path, size: tuple[int, int], scans: int) -> Path:
    """A progressive JPEG whose last scan comes again and again."""
    Image.new("L", size, 100).save(path, "JPEG", progressive=True)
    content = path.read_bytes()
    last = content[content.rfind(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + last * scans + b"\xff\xd9")
    return path


def difference(image: Image.Image, expected: np.ndarray) -> int:
    """The largest of all values of two pictures; grey ones have three equal bands."""
    wanted = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    return int(np.abs(np.asarray(image, int) - wanted).max())


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=50)
    return buffer.getvalue()


def of_every_kind(scratch: Path) -> list[bytes]:
    """Small images that can be read, of every format and of every way of a format that has a way in the code."""
    colour, shade = picture((24, 20)), grey((24, 20))
    image, deep, four = Image.fromarray(colour), colour.astype(np.uint16) * 12, np.dstack([colour, shade])
    window = {"WindowCenter": [2048, 9], "WindowWidth": [4096, 9], "RescaleSlope": "2.5", "RescaleIntercept": "-3"}
    window |= {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"}
    return [
        tiff(deep, photometric="rgb"),
        tiff(deep, photometric="rgb", compression="lzw", tile=(16, 16), predictor=True),
        tiff(np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate", compression="deflate"),
        tiff(np.dstack([deep] * 3), photometric="minisblack", planarconfig="contig", byteorder=">"),
        tiff(four, photometric="rgb", extrasamples=[1]),
        tiff(four.astype(np.float32), photometric="rgb", extrasamples=[2], bigtiff=True),
        tiff(np.stack([shade, shade, shade]), photometric="minisblack"),
        tiff(shade / 7, extratags=[(42113, "s", 0, "3", True)]),
        imagecodecs.png_encode(deep),
        imagecodecs.png_encode(np.dstack([deep, deep[..., 0]])),
        imagecodecs.jpeg2k_encode(deep, level=0, reversible=True),
        b"P6 24 20 3060\n" + deep.astype(">u2").tobytes(),
        b"P5 24 20 100\n" + bytes(480),
        dicom(scratch / "a", shade).read_bytes(),
        dicom(scratch / "b", deep[..., 0], **window).read_bytes(),
        dicom(scratch / "c", colour, syntax=DeflatedExplicitVRLittleEndian).read_bytes(),
        dicom(scratch / "d", np.stack([shade, shade]), NumberOfFrames=2, PixelPaddingValue=3).read_bytes(),
        heic(colour),
        saved(image, "JPEG", progressive=True),
        saved(image, "JPEG2000"),
        saved(image, "AVIF"),
        saved(image, "WEBP"),
        saved(image, "WEBP", lossless=True, save_all=True, append_images=[image.rotate(9)]),
        saved(image, "PNG"),
        saved(image.convert("P"), "PNG", transparency=3, save_all=True, append_images=[image.convert("P").rotate(9)]),
        saved(image.convert("P"), "GIF", save_all=True, append_images=[image.convert("P").rotate(9)]),
        saved(image, "MPO", save_all=True, append_images=[image]),
        saved(image, "ICO"),
        saved(image.convert("P"), "BMP"),
        saved(image, "TGA"),
        saved(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    ]
