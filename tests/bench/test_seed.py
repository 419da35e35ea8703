"""A project that was seeded stands for one that was applied: a plan finds nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import seed
from tests.bench.shapes import FORMS, write_manifests
from tests.desk import Desk, emulator


@pytest.mark.parametrize("name", ["one file", "one hub", "long chains"])
def test_what_was_seeded_is_as_declared(name: str, tmp_path: Path) -> None:
    """And it is as many: what the service lists is owned, and nothing is listed twice."""
    form, data, root = FORMS[name], tmp_path / "service", tmp_path / "project"
    root.mkdir()
    with emulator(data) as service:
        desk = Desk(root, service)
        write_manifests(root, form, len(form.once) + form.size)
        desk.apply()
        seed.main(root, data, 3)
        count = write_manifests(root, form, len(form.once) + 3 * form.size)
        snapshot = desk.snapshot()
    assert snapshot.plan.operations == ()
    assert len(snapshot.state.owned) == count == sum(map(len, snapshot.world.objects.values()))


def test_a_copy_names_nothing_of_the_first() -> None:
    copy = seed.copier(["ft-202601010000-abcd"], ["mark0000"], ["18ebad011789d30c-7f3a09"])
    text = "j000000 g000000 qwen3.5-9b-mark0000-ft-202601010000-abcd 18ebad011789d30c-7f3a09 j000000-01 j0000001"
    copied = copy(text, 7)
    assert copied.split()[0] == "j000007"
    assert copied.endswith(" j000007-01 j0000001")
    assert not any(old in copied for old in ("mark0000", "abcd", "18ebad"))
    assert len({copy(text, unit) for unit in range(100)}) == 100
