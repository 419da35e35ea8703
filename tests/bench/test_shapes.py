"""What is generated must be what it is taken for: valid, as many on both sides, and alike in what refers to what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.project import load
from tests.bench.place import multiplied
from tests.bench.shapes import (
    CHANGED,
    FILE_BYTES,
    FILE_DOCUMENTS,
    FORMS,
    ONE,
    Form,
    packed,
    write_manifests,
    write_records,
    write_terraform,
)

EVERY = [ONE, CHANGED, *FORMS.values()]


@pytest.mark.parametrize("form", EVERY, ids=lambda form: form.name)
def test_every_form_is_a_valid_project(form: Form, tmp_path: Path) -> None:
    count = write_manifests(tmp_path, form, 30)
    project = load([str(tmp_path)])
    assert len(project.documents) == count
    assert 30 - form.size < count <= 30


@pytest.mark.parametrize("form", EVERY, ids=lambda form: form.name)
def test_terraform_has_as_many_blocks_that_refer_to_each_other_as_ours_do(form: Form, tmp_path: Path) -> None:
    count = write_terraform(tmp_path, form, 30)
    text = (tmp_path / "main.tf").read_text(encoding="utf-8")
    blocks = re.findall(r'^resource "terraform_data" "(\S+)" {$', text, re.M)
    assert len(blocks) == len({*blocks}) == count == len([*form.blocks(30)])
    assert {*re.findall(r"terraform_data\.(\S+)\.id", text)} <= {*blocks}
    ours = sum(len(re.findall(r"fineTuneJob:|training:", block.manifest)) for block in form.blocks(30))
    assert len(re.findall(r"terraform_data\.\S+\.id", text)) == ours


def test_files_are_as_few_as_may_be_and_none_is_too_long() -> None:
    blocks = [*FORMS["one file"].blocks(5_000)]
    files = packed(blocks)
    assert [block for file in files for block in file] == blocks
    assert len(files) == -(-len(blocks) // FILE_DOCUMENTS)
    assert all(sum(len(block.manifest.encode()) + 4 for block in file) <= FILE_BYTES for file in files)


def test_a_resource_is_about_as_long_as_said() -> None:
    """The pages speak of 340 bytes."""
    blocks = [*FORMS["one file"].blocks(400)]
    assert 320 < sum(len(block.manifest.encode()) for block in blocks) / len(blocks) < 360


def test_one_in_a_hundred_is_changed() -> None:
    pairs = zip(FORMS["one file"].blocks(1_000), CHANGED.blocks(1_000), strict=True)
    assert sum(before != after for before, after in pairs) == 10


def test_records_are_there_on_both_sides(tmp_path: Path) -> None:
    write_records(tmp_path, 300)
    wanted, held = (tmp_path / place / "bench.example.yaml" for place in ("wanted", "held"))
    assert wanted.read_text() == held.read_text()
    assert wanted.read_text().count("type: A") == 300


def test_a_state_of_terraform_is_multiplied_under_names_and_ids_of_their_own() -> None:
    def resource(name: str, id: str, on: str) -> str:
        attributes = f'{{"id": "{id}", "input": {{"labels": {{"group": "g000000"}}, "uses": "{on}"}}}}'
        return f'{{"name": "{name}", "instances": [{{"attributes": {attributes}}}]}}'

    first, second = "11111111-2222-3333-4444-555555555555", "66666666-7777-3333-4444-555555555555"
    resources = ", ".join((resource("d000000", first, ""), resource("j000000", second, first)))
    text = multiplied(f'{{"resources": [{resources}]}}', 3)
    names, ids = re.findall(r'"name": "(\w+)"', text), re.findall(r'"id": "(\S+)"', text)
    assert names == ["d000000", "j000000", "d000001", "j000001", "d000002", "j000002"]
    assert len({*ids}) == len(ids)
