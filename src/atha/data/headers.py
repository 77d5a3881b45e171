"""What the first bytes of a file say of it: its kind, its size, and how much work its pixels are.

Pillow says most of it; here is what it does not say, or says too late.
"""

import mmap
import re
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO

_UNPACK, _EXPORT = "unpack it first", "export it as JPEG, PNG or TIFF"
_FRAMES = "is a film, not an image: save its frames as PNG"
# Kinds of file that people give and that no decoder of ours is for, by how they begin.
_FOREIGN = tuple(
    (re.compile(begin, re.DOTALL), what)
    for begin, what in (
        (rb"%PDF", "is a PDF document: save its pages as PNG"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "is a PostScript drawing: save it as PNG"),
        (rb"\x93NUMPY", "is a NumPy array file: give np.load(path) in Python, or save it as TIFF or PNG"),
        (rb"PK\x03\x04", f"is a ZIP archive: {_UNPACK}"),
        (rb"\x1f\x8b", f"is a gzip archive: {_UNPACK}"),
        (rb"Rar!|7z\xbc\xaf|\xfd7zXZ|BZh[1-9]|\x28\xb5\x2f\xfd", f"is an archive: {_UNPACK}"),
        (rb"\x89HDF|MATLAB 5", "is an HDF5 or MATLAB file: save its images as TIFF or PNG"),
        (rb"CDF", "is a NetCDF file: save its images as TIFF"),
        (rb"SIMPLE  =", "is a FITS file: save its image as TIFF"),
        (rb"8BPS", "is a Photoshop file: save it as PNG"),
        (rb"gimp xcf", "is a GIMP file: save it as PNG"),
        (rb"AT&TFORM", "is a DjVu document: save its pages as PNG"),
        (rb"DDS ", "is a texture (DDS): save it as PNG"),
        (rb"v/1\x01", "is an OpenEXR file: save it as TIFF"),
        (rb"#\?RADIANCE", "is a Radiance file: save it as TIFF"),
        (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "is a JPEG XL file: save it as PNG"),
        (rb"\xff\xd8\xff\xf7", "is a JPEG-LS file: save it as PNG"),
        (
            rb"(II\*\x00.{4}CR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\x00|FOVb|.{4}ftypcrx)",
            f"is a camera's raw file: {_EXPORT}",
        ),
        (rb".{4}ftyp(isom|iso\d|mp4\d|M4V|qt  |3g|avc1|MSNV|dash|f4v)|\x1aE\xdf\xa3|FLV\x01|\x00\x00\x01\xba", _FRAMES),
        (rb"RIFF.{4}AVI |OggS", _FRAMES),
        (rb"version https://git-lfs", "is a pointer of Git LFS, not the image: run git lfs pull"),
        (rb"(?i:(<\?xml.*)?<svg)", "is an SVG drawing: save it as PNG"),
        (rb"(?i:(<\?xml.*)?<(!doctype html|html))", "is an HTML page, not an image: download the image itself"),
    )
)
_SHOWN = 40
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# A scan costs time on every pixel, however few bytes it has. Photos have about ten.
_SCANS, _SCANNED = 400, 4_000_000_000
# Segments before the first scan, each of which may be metadata.
_SEGMENTS = 4096
# Of JPEG's metadata: Pillow copies Exif again for each segment of it.
_EXIF = 16 << 20
# Of a GIF before its first picture, each of at most 255 bytes.
_PARTS = 8192
# Of a PNG; photos of hundreds of megapixels, cut as programs do, have half as many.
_CHUNKS = 200_000
# Of JPEG 2000 before its pixels.
_BOXES = 1000
_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Frames whose bands may come in one scan.
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
# Arithmetic coding goes on without bytes.
_ARITHMETIC = 12
# Of JPEG 2000: pixels, and tiles and layers, of which each costs time, that are decoded where they can be stopped.
_MANY = 24_000_000
_TILES, _LAYERS = 1024, 64


def foreign(head: bytes) -> str:
    """What a file is that is no image of ours, by its first bytes; or nothing."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    head = head.lstrip() if head[:1].isspace() else head
    return next((what for begin, what in _FOREIGN if begin.match(head)), "")


def is_text(head: bytes) -> str:
    """What to say of a file that begins as a text does, such as an error that was saved in the place of an image."""
    if not re.fullmatch(rb"[\t\n\r -~]{8,}", head) or re.match(rb"P\d\s", head):
        return ""
    begin = " ".join(head.decode("ascii").split())
    return f"is a text, not an image (it begins with '{begin[:_SHOWN]}'): get the image again"


def is_heif(head: bytes) -> bool:
    """Whether a file is HEIF with HEVC inside; AVIF, which names its own brand, is Pillow's."""
    if head[4:8] != b"ftyp":
        return False
    brands = [head[start : start + 4] for start in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)]
    return any(brand in _HEIF_BRANDS for brand in brands) and not any(brand in (b"avif", b"avis") for brand in brands)


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file. Pillow's decoder takes memory for them before it tells."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        packed = int.from_bytes(head[21:25], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


@dataclass(frozen=True)
class JpegHead:
    """What a JPEG says before its first scan.

    Attributes:
        bits: of a band.
        size: width and height.
        coefficients: bytes a pixel that are kept until the last scan; 0 of a file with one.
        arithmetic: whether it is coded so.
        scan: where the first scan's marker is.
        exif: bytes of Exif, in all its segments.
    """

    bits: int
    size: tuple[int, int]
    coefficients: float
    arithmetic: bool
    scan: int
    exif: int


def jpeg_head(file: BufferedReader) -> JpegHead | None:
    """Goes from marker to marker until the first scan; None where they are not as they should be."""
    frame, place, exif = b"", 2, 0
    for _ in range(_SEGMENTS):
        file.seek(place)
        mark = file.read(4)
        while mark[:2] == b"\xff\xff":  # fill bytes
            place += 1
            file.seek(place)
            mark = file.read(4)
        if len(mark) < 4 or mark[0] != 0xFF:
            return None
        length = int.from_bytes(mark[2:4], "big")
        if _FRAME.match(mark):
            frame = mark + file.read(length - 2)
        elif mark[1] == 0xDA:
            break
        elif mark[1] == 0xE1:
            exif += length * (file.read(4) == b"Exif")
        place += 2 + length
    else:
        return None
    count = frame[9] if len(frame) > 9 else 0
    if not count or len(frame) < 10 + 3 * count:
        return None
    sampling = [(frame[11 + 3 * band] >> 4) * (frame[11 + 3 * band] & 15) for band in range(count)]
    size = int.from_bytes(frame[7:9], "big"), int.from_bytes(frame[5:7], "big")
    once = frame[1] in _SEQUENTIAL and file.read(1) == bytes([count])
    coefficients = 0.0 if once else 2 * sum(sampling) / max(1, *sampling)
    return JpegHead(frame[4], size, coefficients, frame[1] >= 0xC9, place, exif)


def jpeg_reason(head: JpegHead, file: BufferedReader) -> str:
    """Why a JPEG is refused, or nothing."""
    if head.bits != 8:
        return f"is a JPEG of {head.bits} bits, which is not read: save it as 16-bit PNG or TIFF"
    if head.exif > _EXIF:
        return f"it has {head.exif / 1e6:.0f} MB of Exif metadata, which would take too long: save it again without"
    if not head.coefficients:
        return ""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return too_many_scans(content, head.scan, head.size, _ARITHMETIC if head.arithmetic else 1)


def too_many_scans(content: bytes | mmap.mmap, start: int, size: tuple[int, int], cost: int = 1) -> str:
    """Why a JPEG of many scans is refused, or nothing.

    Args:
        content: of the file.
        start: of a marker before the first scan.
        size: width and height.
        cost: of a scan, as a multiple of what is usual.
    """
    allowed = min(_SCANS, max(1, _SCANNED // max(1, size[0] * size[1] * cost)))
    if count_scans(content, start, allowed + 1) <= allowed:
        return ""
    return (
        f"it has more than {allowed} scans of {size[0]} x {size[1]} pixels, which would take too long: save it "
        "again as JPEG or PNG"
    )


@dataclass(frozen=True)
class Jpeg2000:
    """What the header of a JPEG 2000 file says.

    Attributes:
        size: width and height.
        components: how many bands.
        bits: of the deepest band.
        signed: whether values may be negative.
        slow: whether decoding may take long.
        reductions: how many times both sides can be halved in decoding.
    """

    size: tuple[int, int]
    components: int
    bits: int
    signed: bool
    slow: bool
    reductions: int


def jpeg_2000(file: BinaryIO) -> Jpeg2000 | None:
    """Reads the size and coding markers of the first codestream; None where they are not as they should be."""
    start = _codestream(file)
    if start is None:
        return None
    file.seek(start)
    head = file.read(1 << 16)
    if head[:4] != b"\xff\x4f\xff\x51" or len(head) < 42:
        return None
    words = [int.from_bytes(head[place : place + 4], "big") for place in range(8, 40, 4)]
    components = int.from_bytes(head[40:42], "big")
    depths = head[42 : 42 + 3 * components : 3]
    width, height = words[0] - words[2], words[1] - words[3]
    if len(depths) != components or not components or min(width, height, words[4], words[5]) < 1:
        return None
    tiles = -(-width // words[4]) * -(-height // words[5])
    layers, levels = _coding(head)
    slow = width * height * components > 3 * _MANY or tiles > _TILES or layers > _LAYERS
    bits = max((depth & 0x7F) + 1 for depth in depths)
    return Jpeg2000((width, height), components, bits, any(depth & 0x80 for depth in depths), slow, levels)


def png_reason(file: BufferedReader) -> str:
    """Why a PNG is refused, or nothing: Pillow goes from chunk to chunk, and there may be millions."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = 8
        for _ in range(_CHUNKS):
            if content[place + 4 : place + 8] in (b"", b"IEND"):
                return ""
            place += 12 + int.from_bytes(content[place : place + 4], "big")
    return f"it has more than {_CHUNKS:,} chunks, which would take too long: save it again"


def gif_reason(file: BinaryIO) -> str:
    """Why a GIF is refused, or nothing.

    Pillow copies notes before the first picture again for each of their parts, and looks for it byte by byte.
    """
    file.seek(0)
    head = file.read(13)
    file.seek(13 + (3 << (head[10] & 7) + 1 if len(head) == 13 and head[10] & 0x80 else 0))
    parts = 0
    while parts < _PARTS and (begin := file.read(1)) not in (b"", b",", b";"):
        parts += 1
        if begin != b"!":
            continue
        file.read(1)
        while parts < _PARTS and (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], 1)
            parts += 1
    if parts < _PARTS:
        return ""
    return f"it has {_PARTS:,} parts before its first picture, which would take too long: save it as PNG"


def netpbm_reason(file: BinaryIO) -> str:
    """Why a PPM or a relative is refused, or nothing: Pillow reads remarks letter by letter."""
    file.seek(0)
    head = file.read(1 << 16)
    if len(head) < 1 << 16 or not re.match(rb"P[1-6Ff]\s", head):
        return ""
    if len(re.sub(rb"#[^\r\n]*", b"", head).split(maxsplit=4)) > 3:
        return ""
    return "its header has remarks of more than 64 kB: save it again"


def icon_pixels(file: BufferedReader) -> int:
    """Pixels of the largest image in an icon: what its list says of sizes need not be so."""
    file.seek(0)
    head = file.read(6 + 16 * 64)
    most = 0
    for number in range(min(64, int.from_bytes(head[4:6], "little"))):
        entry = head[6 + 16 * number : 22 + 16 * number]
        file.seek(int.from_bytes(entry[12:16], "little"))
        inner = file.read(24)
        if inner[:4] == b"\x89PNG":
            sides = int.from_bytes(inner[16:20], "big"), int.from_bytes(inner[20:24], "big")
        else:
            sides = int.from_bytes(inner[4:8], "little"), int.from_bytes(inner[8:12], "little")
        most = max(most, sides[0] * sides[1])
    return most


def _codestream(file: BinaryIO) -> int | None:
    """Where the first codestream of a JPEG 2000 file begins: at once, or in a box of its own."""
    file.seek(0)
    if file.read(2) == b"\xff\x4f":
        return 0
    place = 0
    for _ in range(_BOXES):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return None
        size, kind, own = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, own = int.from_bytes(head[8:16], "big"), 16
        if kind == b"jp2c":
            return place + own
        if size < own:
            return None
        place += own if kind == b"jp2h" else size  # that one holds boxes, too
    return None


def _coding(head: bytes) -> tuple[int, int]:
    """Quality layers and halvings that the coding marker gives; as if there were many where it is not found."""
    place = 2
    while place + 4 <= len(head):
        kind, length = head[place : place + 2], int.from_bytes(head[place + 2 : place + 4], "big")
        if kind == b"\xff\x52" and place + 10 <= len(head):
            return int.from_bytes(head[place + 6 : place + 8], "big"), head[place + 9]
        if kind == b"\xff\x90" or length < 2:
            break
        place += 2 + length
    return _LAYERS + 1, 0


def count_scans(content: bytes | mmap.mmap, start: int, most: int) -> int:
    """Scans of a JPEG from a marker to its end, no further than ``most``."""
    place, scans, segments = start, 0, 0
    while scans < most and segments < 50_000:
        found = _MARKER.search(content, place)
        if found is None or found.group()[1] == 0xD9:
            return scans
        scans += found.group()[1] == 0xDA
        segments += 1
        place = found.start() + 2
        if place + 2 > len(content):
            return scans
        place += int.from_bytes(content[place : place + 2], "big")
    return most
