"""N resources as manifests, and as many Terraform blocks that refer to each other in the same way.

A form is a few resources that are there once, and a unit that is repeated. Every name holds its number in six digits,
so that what a service made of one unit can be turned into what it would have made of another (`seed.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES, FILE_DOCUMENTS = 1 << 20, 1_000  # what one file may hold
ROWS = 20
ROW_FILE = "data/rows.jsonl"
CHAIN = 7  # a model is named after all before it, and an identifier has an end: a longer chain cannot be made
HEAD = "apiVersion: bailian.reconciler/v1alpha1\nkind: "
STACK = f"{HEAD}Stack\nmetadata: {{name: bench}}\nspec: {{endpoint: emulator}}\n"

Unit = Callable[[int], list["Block"]]


@dataclass(frozen=True)
class Block:
    """One resource: as a manifest, and as a block of Terraform with the same content."""

    name: str
    manifest: str
    terraform: str


@dataclass(frozen=True)
class Form:
    """`once` is there once, `unit(k)` as often as fits; `together` is whether few files hold all."""

    name: str
    once: tuple[Block, ...]
    unit: Unit
    together: bool = True

    @property
    def size(self) -> int:
        """How many resources a unit has."""
        return len(self.unit(0))

    def units(self, count: int) -> int:
        """How many units make up `count` resources, or a few less."""
        return max(1, (count - len(self.once)) // self.size)

    def blocks(self, count: int) -> Iterator[Block]:
        yield from self.once
        for number in range(self.units(count)):
            yield from self.unit(number)


def _block(kind: str, name: str, manifest: str, terraform: str) -> Block:
    about = {
        "team": "benchmark",
        "tier": "production",
        "owner": "nobody-in-particular",
        "group": f"g{name[1:] or 'all'}",
    }
    note = f"made to be counted and not to be read, {name}"
    labels = ", ".join(f"{key}: {value}" for key, value in about.items())
    head = f"{HEAD}{kind}\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\n  description: {note}\nspec:\n"
    tags = ", ".join(f'{key} = "{value}"' for key, value in about.items())
    meta = f'    kind = "{kind}"\n    name = "{name}"\n    labels = {{ {tags} }}\n    description = "{note}"\n'
    resource = f'resource "terraform_data" "{name}" {{\n  input = {{\n{meta}{terraform}  }}\n}}\n'
    return Block(name, head + manifest, resource)


def dataset(name: str) -> Block:
    spec = f"  source: {ROW_FILE}\n  format: sft\n  lint: {{minRows: {ROWS}}}\n"
    return _block("Dataset", name, spec, f'    source = "{ROW_FILE}"\n    format = "sft"\n    rows   = {ROWS}\n')


def job(name: str, data: str, model: str = "") -> Block:
    """Of a dataset, and of another job's model or a base model."""
    spec = (
        f"  model: {f'{{fineTuneJob: {model}}}' if model else 'qwen3.5-9b'}\n  trainingType: efficient_sft\n"
        f"  training: [{data}]\n  hyperParameters: {{n_epochs: 1, batch_size: 16, max_length: 2048}}\n"
    )
    base = f"terraform_data.{model}.id" if model else '"qwen3.5-9b"'
    input = f'    model = {base}\n    type = "efficient_sft"\n    training = [terraform_data.{data}.id]\n'
    return _block("FineTuneJob", name, spec, f"{input}    epochs = 1\n    batch = 16\n    length = 2048\n")


def deployment(name: str, model: str) -> Block:
    spec = f"  model: {{fineTuneJob: {model}}}\n  plan: mu\n  deploySpec: MU1\n  capacity: 4\n"
    input = f'    model = terraform_data.{model}.id\n    plan = "mu"\n    spec = "MU1"\n    capacity = 4\n'
    return _block("Deployment", name, spec, input)


def hotwords(name: str, weight: int = 4) -> Block:
    """Of a model that takes phrase lists: of these an account may have any number, of vocabularies ten."""
    words = {"阿帕替尼": weight, "赛沃替尼": 4}
    spec = "".join(f"    - {{text: {word}, weight: {value}}}\n" for word, value in words.items())
    input = "".join(f'    "{word}" = {value}\n' for word, value in words.items())
    return _block("HotwordTable", name, f"  targetModel: paraformer-v1\n  words:\n{spec}", input)


def group(number: int) -> list[Block]:
    """Four of a kind each, in a chain, and one that stands alone."""
    one = f"{number:06}"
    return [dataset(f"d{one}"), job(f"j{one}", f"d{one}"), deployment(f"p{one}", f"j{one}"), hotwords(f"h{one}")]


def user(number: int) -> list[Block]:
    return [job(f"j{number:06}", "d")]


def chain(number: int) -> list[Block]:
    """A dataset, jobs that go on from one another, and a deployment of the last."""
    one = f"{number:06}"
    names = [f"j{one}-{step:02}" for step in range(CHAIN - 2)]
    jobs = [job(name, f"d{one}", before) for name, before in zip(names, ["", *names], strict=False)]
    return [dataset(f"d{one}"), *jobs, deployment(f"p{one}", names[-1])]


def alone(number: int) -> list[Block]:
    return [dataset(f"d{number:06}")]


def changed(number: int) -> list[Block]:
    """A group; in every 25th the words are others, which is one resource in a hundred."""
    *others, words = group(number)
    return [*others, hotwords(words.name, weight=5) if number % 25 == 0 else words]


ONE = Form("one", (), alone)
CHANGED = Form("changed", (), changed)
FORMS = {
    form.name: form
    for form in (
        Form("one file", (), group),
        Form("a file each", (), group, together=False),
        Form("one hub", (dataset("d"),), user),
        Form("long chains", (), chain),
    )
}


def write_manifests(folder: Path, form: Form, count: int) -> int:
    """The whole project; how many resources it has."""
    (folder / ROW_FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder / ROW_FILE).write_text("".join(map(row, range(ROWS))), encoding="utf-8")
    (folder / "stack.yaml").write_text(STACK, encoding="utf-8")
    blocks = [*form.blocks(count)]
    files = packed(blocks) if form.together else [[block] for block in blocks]
    for number, file in enumerate(files):
        text = "---\n".join(block.manifest for block in file)
        (folder / f"{number:06}.yaml").write_text(text, encoding="utf-8")
    return len(blocks)


def packed(blocks: list[Block]) -> list[list[Block]]:
    """In as few files as may hold them."""
    files: list[list[Block]] = [[]]
    size = 0
    for block in blocks:
        more = len(block.manifest.encode()) + len("---\n")
        if files[-1] and (size + more > FILE_BYTES or len(files[-1]) == FILE_DOCUMENTS):
            files.append([])
            size = 0
        files[-1].append(block)
        size += more
    return files


def row(number: int) -> str:
    said = [("user", f"What is {number} and {number}?"), ("assistant", f"It is {2 * number}.")]
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in said]}) + "\n"


def write_terraform(folder: Path, form: Form, count: int) -> int:
    """The same, in one file; how many blocks it has."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [block.terraform for block in form.blocks(count)]
    (folder / "main.tf").write_text("\n".join(blocks), encoding="utf-8")
    return len(blocks)


def write_records(folder: Path, count: int) -> int:
    """As many records of one DNS zone, for octoDNS: what it should hold, and what it holds."""
    names = [f"r{number:06}:\n  ttl: 300\n  type: A\n  value: 192.0.2.{number % 250 + 1}\n" for number in range(count)]
    for place in ("wanted", "held"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / "bench.example.yaml").write_text("---\n" + "".join(names), encoding="utf-8")
    provider = "  {0}:\n    class: octodns.provider.yaml.YamlProvider\n    directory: {0}\n    default_ttl: 300\n"
    zones = "zones:\n  bench.example.:\n    sources: [wanted]\n    targets: [held]\n"
    text = "providers:\n" + provider.format("wanted") + provider.format("held") + zones
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return count
