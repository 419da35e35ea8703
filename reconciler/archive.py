"""Archives of images (contract §7.2): whether one is what it says it is, and whether its rows and pictures agree.

Promises that nothing is extracted or decoded, that memory and time are bounded whatever the archive claims, and that
two readers of it would see the same files. It opens no file.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, BinaryIO, cast

from reconciler.errors import Problem
from reconciler.rows import Findings, image_names, read_rows
from reconciler.wording import shown

MAX_ENTRIES = 50_000
MAX_TOTAL_BYTES = 2 << 30
MAX_TEXT_BYTES = 300 << 20
MAX_IMAGE_BYTES = 10 << 20
ROWS = "data.jsonl"

_CHUNK_BYTES = 1 << 20


def archive_findings(file: BinaryIO, display: str) -> tuple[Problem, ...]:
    """What is wrong with an archive of images; mistakes in its rows are placed in `<archive>/data.jsonl`."""
    findings, rows = Findings(display), Findings(f"{display}/{ROWS}")
    try:
        directory = _directory(file)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            for what in _entry_faults(file, entries, directory):
                findings.add(1, 1, what)
            if not findings.problems:
                _check_contents(archive, findings, rows)
    except _Unsound as error:
        findings.add(1, 1, str(error))
    except _UNREADABLE:
        findings.add(1, 1, "not a zip archive that can be read", "write it anew with an ordinary zip program")
    return (*findings.problems, *rows.problems)


class _Unsound(Exception):
    """What makes an archive unfit to be looked at further."""


# What zipfile is known to raise for hostile archives, besides its own error.
_UNREADABLE = (
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


def _entry_faults(file: BinaryIO, entries: list[zipfile.ZipInfo], directory: int) -> Iterator[str]:
    for entry in entries:
        yield from _name_faults(entry)
        yield from _size_faults(entry)
    yield from _total_faults(entries)
    yield from _place_faults(file, entries, directory)


def _name_faults(entry: zipfile.ZipInfo) -> Iterator[str]:
    name = shown(entry.orig_filename)
    steps = entry.orig_filename.removesuffix("/").split("/")
    if entry.orig_filename != entry.filename or any(not _NAME.fullmatch(step) for step in steps):
        yield f"{name}: names are of ASCII letters, digits, _ and -, with one suffix"
    elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        yield f"{name} is a link or a special file"
    elif not entry.is_dir() and entry.filename != ROWS and _suffix(entry.filename) not in _MAGIC:
        yield f"{name} is neither {ROWS} at the top nor an image ({', '.join(_MAGIC)})"


_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)?")


def _size_faults(entry: zipfile.ZipInfo) -> Iterator[str]:
    limit = MAX_TEXT_BYTES if entry.filename == ROWS else MAX_IMAGE_BYTES
    if entry.flag_bits & 1:
        yield f"{shown(entry.filename)} is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield f"{shown(entry.filename)} is compressed in a way the service may not know: use deflate"
    if entry.file_size > limit:
        yield f"{shown(entry.filename)} has {entry.file_size:,} bytes, and the limit is {limit:,}"


def _total_faults(entries: Iterable[zipfile.ZipInfo]) -> Iterator[str]:
    files = [entry for entry in entries if not entry.is_dir()]
    if ROWS not in {entry.filename for entry in files}:
        yield f"{ROWS} is missing at the top of the archive"
    if (total := sum(entry.file_size for entry in files)) > MAX_TOTAL_BYTES:
        yield f"{total:,} bytes in all, and the limit is {MAX_TOTAL_BYTES:,}"
    bases = Counter(_base(entry.filename).casefold() for entry in files)
    for name, count in bases.items():
        if count > 1:
            yield f"{count} files are called {shown(name)}: rows name images without their folder"


def _place_faults(file: BinaryIO, entries: list[zipfile.ZipInfo], directory: int) -> Iterator[str]:
    """Entries must lie one after the other, each headed by what the directory says of it."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = []
    for entry in ordered:
        file.seek(entry.header_offset)
        signature, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
        says = (signature, method, flags & 1, file.read(name))
        if says != (b"PK\x03\x04", entry.compress_type, 0, entry.filename.encode("utf-8")) or (
            not flags & 8 and (crc, packed, size) != (entry.CRC, entry.compress_size, entry.file_size)
        ):
            yield f"{shown(entry.filename)}: the archive says two different things of it"
        ends.append(entry.header_offset + _LOCAL.size + name + extra + entry.compress_size)
    starts = [*(entry.header_offset for entry in ordered), directory]
    if starts[0] != 0 or any(end > start for end, start in zip(ends, starts[1:], strict=True)):
        yield "entries overlap, or do not begin at the beginning"


# The contents -------------------------------------------------------------------------------------------------------


def _check_contents(archive: zipfile.ZipFile, findings: Findings, rows: Findings) -> None:
    images = set()
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        head, size = _drained(archive.open(entry))
        if size != entry.file_size:
            findings.add(1, 1, f"{shown(entry.filename)} holds {size:,} bytes and claims {entry.file_size:,}")
        if entry.filename != ROWS:
            images.add(_base(entry.filename))
            if not re.match(_MAGIC[_suffix(entry.filename)], head, re.DOTALL):
                findings.add(1, 1, f"{shown(entry.filename)} is not an image of that type")
    with archive.open(ROWS) as file:
        for row in read_rows(cast(BinaryIO, file), "sft-image", rows):
            for where, name in image_names(row.value or {}):
                if name not in images:
                    rows.add(row.number, 1, f"{where} names an image that is not in the archive")


def _drained(entry: IO[bytes]) -> tuple[bytes, int]:
    """The first bytes of an entry, and how many it truly has."""
    with entry:
        head = entry.read(16)
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
