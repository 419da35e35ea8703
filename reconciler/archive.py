"""Archives of images (docs/contract.md §7.2): whether one is what it says, and whether its rows and pictures agree.

Promises that nothing is extracted or decoded, that memory and time are bounded whatever the archive claims, and that
two readers of it would see the same files. It opens no file.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO, BinaryIO, NamedTuple, cast

from reconciler.findings import DEC_2024, Findings
from reconciler.rows import Row, column_of, image_names, read_rows
from reconciler.wording import shown

MAX_ENTRIES = 50_000
MAX_TOTAL_BYTES = 2 << 30
MAX_RATIO = 200  # of what it holds to what it is, for archives that hold more than a little
MAX_TEXT_BYTES = 300 << 20
MAX_IMAGE_BYTES = 10 << 20
MAX_SIDE_PIXELS = 1024
ROWS = "data.jsonl"

_CHUNK_BYTES = 1 << 20
_LITTLE_BYTES = 64 << 20


def read_archive(file: BinaryIO, findings: Findings, rows: Findings) -> Iterator[Row]:
    """Every row of an archive, once the archive itself is sound; what is wrong with either is added to its findings."""
    try:
        directory = _directory(file)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            for fault in _entry_faults(file, entries, directory, findings.profile):
                findings.add(fault.rule, 1, fault.what, fault.hint)
            if not findings.problems:
                yield from _rows(archive, findings, rows)
    except _Unsound as error:
        findings.add("zip", 1, str(error))
    except UNREADABLE:
        findings.add("zip", 1, "not a zip archive that can be read", "write it anew with an ordinary zip program")


def row_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of the rows of an archive that was found sound. One of `UNREADABLE` where it no longer is."""
    with zipfile.ZipFile(file) as archive, archive.open(ROWS) as rows:
        yield from rows


class _Unsound(Exception):
    """What makes an archive unfit to be looked at further."""


# What zipfile is known to raise for hostile archives, besides its own error.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


# The frame ----------------------------------------------------------------------------------------------------------


_END = struct.Struct("<4s4H2IH")
_LOCAL = struct.Struct("<4s5H3I2H")


def _directory(file: BinaryIO) -> int:
    """Where the central directory begins. Nothing may stand before the archive, after it, or between its parts."""
    size = file.seek(0, 2)
    if size < _END.size:
        raise _Unsound("not a zip archive")
    file.seek(size - _END.size)
    signature, disk, start_disk, here, count, length, offset, comment = _END.unpack(file.read(_END.size))
    if signature != b"PK\x05\x06" or comment:
        raise _Unsound("not a zip archive, or one with a comment or other data at its end")
    if disk or start_disk or here != count or 0xFFFFFFFF in (length, offset):
        raise _Unsound("a zip archive in several volumes or of the 64-bit form")
    if count > MAX_ENTRIES:
        raise _Unsound(f"{count:,} files, and the limit is {MAX_ENTRIES:,}")
    if offset + length + _END.size != size:
        raise _Unsound("other data before the archive or inside its directory")
    return int(offset)


class _Fault(NamedTuple):
    rule: str
    what: str
    hint: str = ""


def _entry_faults(file: BinaryIO, entries: list[zipfile.ZipInfo], directory: int, profile: str) -> Iterator[_Fault]:
    for entry in entries:
        yield from _name_faults(entry)
        yield from _size_faults(entry)
    yield from _total_faults(file, entries)
    yield from _layout_faults(entries, profile)
    yield from _place_faults(file, entries, directory)


def _name_faults(entry: zipfile.ZipInfo) -> Iterator[_Fault]:
    name = shown(entry.orig_filename)
    steps = entry.orig_filename.removesuffix("/").split("/")
    if entry.orig_filename != entry.filename or {"", ".", ".."} & {*steps} or not entry.filename.isprintable():
        yield _Fault("zip-path", f"{name} leads out of the archive, or holds what no name does")
    elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        yield _Fault("zip", f"{name} is a link or a special file")
    elif any(not _NAME.fullmatch(step) for step in steps):
        yield _Fault("zip-name", f"{name}: names are of ASCII letters, digits, _ and -, with one suffix")
    if not entry.is_dir() and entry.filename != ROWS and _suffix(entry.filename) not in _MAGIC:
        yield _Fault("image-type", f"{name} is neither {ROWS} at the top nor an image ({', '.join(_MAGIC)})")


_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)?")


def _size_faults(entry: zipfile.ZipInfo) -> Iterator[_Fault]:
    name, size = shown(entry.filename), entry.file_size
    if entry.flag_bits & 1:
        yield _Fault("zip", f"{name} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield _Fault("zip", f"{name} is compressed in a way the service may not know", "use deflate")
    if entry.filename == ROWS and size > MAX_TEXT_BYTES:
        yield _Fault("zip-size", f"{name} has {size:,} bytes, and the limit is {MAX_TEXT_BYTES:,}")
    if entry.filename != ROWS and size > MAX_IMAGE_BYTES:
        yield _Fault("image-bytes", f"{name} has {size:,} bytes, and the limit is {MAX_IMAGE_BYTES:,}")


def _total_faults(file: BinaryIO, entries: Iterable[zipfile.ZipInfo]) -> Iterator[_Fault]:
    total, size = sum(entry.file_size for entry in entries), file.seek(0, io.SEEK_END)
    if total > MAX_TOTAL_BYTES:
        yield _Fault("zip-size", f"{total:,} bytes in all, and the limit is {MAX_TOTAL_BYTES:,}")
    elif total > max(_LITTLE_BYTES, MAX_RATIO * size):
        yield _Fault("zip-size", f"{total:,} bytes in an archive of {size:,}: more than {MAX_RATIO} to one")


def _layout_faults(entries: Iterable[zipfile.ZipInfo], profile: str) -> Iterator[_Fault]:
    names = [entry.filename for entry in entries if not entry.is_dir()]
    if ROWS not in names:
        wrapped = any(name.endswith(f"/{ROWS}") for name in names)
        yield _Fault(
            "zip-layout", f"{ROWS} is missing at the top of the archive", "pack without the folder" if wrapped else ""
        )
    bases = Counter(_base(name).casefold() for name in names)
    for base, count in bases.items():
        if count > 1:
            yield _Fault("zip-layout", f"{count} files are called {shown(base)}", "rows name images without folder")
    if profile == DEC_2024:
        for name in names:
            if "/" in name:
                yield _Fault("zip-folder", f"{shown(name)} lies in a folder, and not beside {ROWS}")


def _place_faults(file: BinaryIO, entries: list[zipfile.ZipInfo], directory: int) -> Iterator[_Fault]:
    """Entries must lie one after the other, each headed by what the directory says of it."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = []
    for entry in ordered:
        file.seek(entry.header_offset)
        signature, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
        says = (signature, method, flags & 1, file.read(name))
        spelt = entry.orig_filename.encode("utf-8" if entry.flag_bits & _IN_UTF_8 else "cp437")
        if says != (b"PK\x03\x04", entry.compress_type, 0, spelt) or (
            not flags & 8 and (crc, packed, size) != (entry.CRC, entry.compress_size, entry.file_size)
        ):
            yield _Fault("zip", f"{shown(entry.filename)}: the archive says two different things of it")
        ends.append(entry.header_offset + _LOCAL.size + name + extra + entry.compress_size)
    starts = [*(entry.header_offset for entry in ordered), directory]
    if starts[0] != 0 or any(end > start for end, start in zip(ends, starts[1:], strict=True)):
        yield _Fault("zip", "entries overlap, or do not begin at the beginning")


_IN_UTF_8 = 0x800


# The contents -------------------------------------------------------------------------------------------------------


def _rows(archive: zipfile.ZipFile, findings: Findings, rows: Findings) -> Iterator[Row]:
    images = set(_images(archive, findings))
    unused = set(images)
    with io.BufferedReader(cast(io.RawIOBase, archive.open(ROWS))) as file:
        for row in read_rows(file, "sft-image", rows):
            for path, name in image_names(row.value or {}):
                unused.discard(name)
                if name not in images:
                    hint = f"without its folder: {shown(_base(name))}" if _base(name) in images else ""
                    rows.add(
                        "image-missing",
                        row.number,
                        f"{shown(name)} is not in the archive",
                        hint,
                        column=partial(column_of, row.line, path),
                    )
            yield row
    for name in sorted(unused):
        findings.add("image-unused", 1, f"{shown(name)} is named by no row")


def _images(archive: zipfile.ZipFile, findings: Findings) -> Iterator[str]:
    """The names of the images as rows have them; every entry is read to its end, so that none lies about its size."""
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        name = shown(entry.filename)
        head, size = _drained(archive.open(entry))
        if size != entry.file_size:
            findings.add("zip", 1, f"{name} holds {size:,} bytes and claims {entry.file_size:,}")
        if entry.filename == ROWS:
            continue
        yield _base(entry.filename)
        width, height = _pixels(head)
        if not re.match(_MAGIC[_suffix(entry.filename)], head, re.DOTALL) or min(width, height) < 1:
            findings.add("image-type", 1, f"{name} is not an image of that type")
        elif max(width, height) > MAX_SIDE_PIXELS:
            what = f"{name} has {width:,} x {height:,} pixels, and the limit is {MAX_SIDE_PIXELS:,} a side"
            findings.add("image-pixels", 1, what, "make it smaller")


def _pixels(data: bytes) -> tuple[int, int]:
    """Width and height by the header; -1 where it cannot be read."""
    import imagesize  # loads an HTTP client

    width, height = imagesize.get(io.BytesIO(data), exif_rotation=False)
    return int(width), int(height)


def _drained(entry: IO[bytes]) -> tuple[bytes, int]:
    """As much of an entry as an image may have, and how many bytes it truly has."""
    with entry:
        head = entry.read(MAX_IMAGE_BYTES)
        size = len(head)
        while chunk := entry.read(_CHUNK_BYTES):
            size += len(chunk)
    return head, size


_MAGIC = {
    "bmp": rb"BM",
    "jpeg": rb"\xff\xd8\xff",
    "jpg": rb"\xff\xd8\xff",
    "png": rb"\x89PNG\r\n\x1a\n",
    "tif": rb"II\*\0|MM\0\*",
    "tiff": rb"II\*\0|MM\0\*",
    "webp": rb"RIFF....WEBP",
}


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()
