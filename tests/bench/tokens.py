"""What counting costs beside the bare library, and what unchanged files cost beside hashing them.

    python -m tests.bench.tokens [FILES]

FILES files of 1 MiB each (1,000 unless said otherwise) are written to the temporary folder and are in the page cache
when they are read. Figures are ratios within this run: medians of rounds taken in turn.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unicodedata import normalize

from reconciler import tokens
from reconciler.cache import Cache
from reconciler.catalogue import load
from reconciler.data import describe, values
from reconciler.files import Tree
from reconciler.resource import Source
from reconciler.rows import texts

PROFILE = load().for_profile("2026")
SAMPLE = Path(__file__).parents[2] / "manifests/quickstart/data/assistant.sft.jsonl"
SAID = [text for line in SAMPLE.read_text("utf-8").splitlines() for text in texts(json.loads(line))[0]]
LATER = 1 << 62  # the disk's clock, as if every file were old


def main(files: int) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        (root / "data").mkdir()
        counting(root)
        unchanged(root, files)


def counting(root: Path) -> None:
    """The library is given one text after the other, already parsed."""
    (root / "rows.jsonl").write_bytes(b"".join(lines(random.Random(1), 8 << 20)))
    (content,), *_ = describe(Tree(root), Source(("rows.jsonl",), "sft", ("source",), None, 0), PROFILE)
    by = tokens.counter("qwen3.5")
    by.count([""])  # load the ranks
    rows = [*values(Tree(root), content)]
    every = [text for row in rows for text in texts(row)[0]]
    bare = by._encoding.encode_ordinary  # type: ignore[attr-defined]
    deeds: tuple[Callable[[], object], ...] = (
        lambda: sum(len(bare(normalize("NFC", text))) for text in every),
        lambda: tokens.measure(rows, by),
        lambda: tokens.measure(values(Tree(root), content), by),
    )
    rounds = [[seconds(deed) for deed in deeds] for _ in range(5)]
    bare_s, ours_s, file_s = map(median, zip(*rounds, strict=True))
    print(
        f"count of 8 MiB of chat rows, beside the bare library ({content.size / bare_s / 1e6:.1f} MB/s): "
        f"{median(one[0] / one[1] for one in rounds):.2f} of its speed, and "
        f"{median(one[0] / one[2] for one in rounds):.2f} with reading, hashing and parsing the file "
        f"({bare_s:.2f}, {ours_s:.2f}, {file_s:.2f} s)"
    )


def unchanged(root: Path, files: int) -> None:
    """What a plan does with the data it finds: described anew, found in the cache, or only hashed."""
    for number in range(files):
        (root / "data" / f"{number:04}.jsonl").write_bytes(b"".join(lines(random.Random(number), 1 << 20)))
    one_set = [Source(("data/*.jsonl",), "sft", ("source",), None, 0)]
    each = [Source((f"data/{number:04}.jsonl",), "sft", ("source",), None, 0) for number in range(files)]
    hash_s = median(seconds(lambda: hashed(root)) for _ in range(3))
    for name, sources in (("one Dataset", one_set), (f"{files:,} Datasets", each)):
        read_s = seconds(lambda sources=sources: described(root, sources))  # type: ignore[misc]
        known_s = median(seconds(lambda sources=sources: described(root, sources)) for _ in range(5))  # type: ignore[misc]
        print(
            f"{files:,} unchanged files of 1 MiB in {name}: read {read_s:.1f} s, then {1000 * known_s:.0f} ms, "
            f"{known_s / read_s:.5f} of reading and {known_s / hash_s:.3f} of hashing them ({hash_s:.2f} s)"
        )


def described(root: Path, sources: list[Source]) -> None:
    cache = Cache(root, clock=lambda: LATER)
    for source in sources:
        contents, problems, *_ = describe(Tree(root), source, PROFILE, cache=cache)
        assert contents
        assert not problems
    cache.save()


def hashed(root: Path) -> None:
    for path in (root / "data").iterdir():
        hashlib.sha256(path.read_bytes()).digest()


def lines(chance: random.Random, size: int) -> Iterator[bytes]:
    """Chat rows of what the samples say, Chinese and English, `size` bytes of them or a little less."""
    while True:
        said = ["\n".join(chance.choices(SAID, k=chance.randrange(1, 12))) for _ in range(2)]
        messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]
        line = json.dumps({"messages": messages}, ensure_ascii=False).encode() + b"\n"
        size -= len(line)
        if size < 0:
            return
        yield line


def seconds(deed: Callable[[], object]) -> float:
    began = time.process_time()
    deed()
    return time.process_time() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
