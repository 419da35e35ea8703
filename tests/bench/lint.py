"""How long the reading of training data takes beside the parsing of its JSON alone, and how much memory.

    python -m tests.bench.lint [MEGABYTES]

The rows are made of the sample's, in the temporary folder. CPU seconds, in turn, the median of three; the loop over
`json.loads` is what the official SDK's check does. Memory is the peak of a process of its own, above that of one row.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from reconciler import catalogue
from reconciler.data import describe
from reconciler.files import Tree
from reconciler.resource import Source

SAMPLE = Path(__file__).parents[2] / "manifests/quickstart/data/assistant.sft.jsonl"
PEAK = (
    "import resource, sys; from pathlib import Path; from tests.bench.lint import lint;"
    " lint(Path(sys.argv[1])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
)


def main(megabytes: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        speed(made(folder / "speed.jsonl", megabytes * 10**6))
        least = peak_mb(made(folder / "one.jsonl", 1))
        for size in (3, 300):
            above = peak_mb(made(folder / f"{size}.jsonl", size * 10**6)) - least
            print(f"{size} MB: {above} MB above the {least} MB of one row")


def speed(path: Path) -> None:
    """Every reader in turn, three times."""
    readers: dict[str, Callable[[Path], None]] = {"lint": lint, "json.loads": parser("json")}
    if find_spec("orjson"):
        readers["orjson.loads"] = parser("orjson")
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(3):
        for name, reader in readers.items():
            began = time.process_time()
            reader(path)
            taken[name].append(time.process_time() - began)
    ours = median(taken["lint"])
    print(f"{path.stat().st_size / 1e6:.0f} MB, lint {ours:.2f} s, {path.stat().st_size / 1e6 / ours:.0f} MB/s")
    for name in readers.keys() - {"lint"}:
        print(f"{name} {median(taken[name]):.2f} s: {median(taken[name]) / ours:.2f} of lint")


def lint(path: Path) -> None:
    """What `plan` does: hash, rules and census."""
    profile = catalogue.load().for_profile("2026")
    assert not describe(Tree(path.parent), Source((path.name,), "sft", ("source",)), profile).problems


def parser(module: str) -> Callable[[Path], None]:
    """A reader that parses every line and does nothing else."""
    loads = import_module(module).loads

    def read(path: Path) -> None:
        with path.open("rb") as file:
            for line in file:
                loads(line)

    return read


def made(path: Path, size: int) -> Path:
    """A file of about so many bytes; the same whenever it is made."""
    with path.open("wb") as file:
        for line in rows():
            file.write(line)
            if file.tell() >= size:
                return path
    raise AssertionError("rows never end")


def rows() -> Iterator[bytes]:
    chance = random.Random(7)
    messages = [one for line in SAMPLE.open(encoding="utf-8") for one in json.loads(line)["messages"]]
    texts = [one["content"] for one in messages if one["role"] != "system"]
    while True:
        said = [{"role": "system", "content": f"assistant {chance.random()}"}]
        for _ in range(chance.choice((1, 1, 2, 3))):
            said.append({"role": "user", "content": " ".join(chance.choices(texts, k=3))})
            said.append({"role": "assistant", "content": " ".join(chance.choices(texts, k=6))})
        yield json.dumps({"messages": said}, ensure_ascii=False).encode() + b"\n"


def peak_mb(path: Path) -> int:
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], check=True, capture_output=True, encoding="utf-8")
    return int(done.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 67)
