"""What the vendor's clients are judged with: an environment for each release, an emulator for each test, and a tally.

Where a release cannot be installed the tests are skipped with the reason; with CI=true that is a failure, because
there nobody would notice a skip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.conformance import facts, vendor
from tests.desk import KEY, Emulator, emulator
from tests.tally import CONFORMANCE, Tally

NOTHING: Mapping[str, Any] = MappingProxyType({})


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "conformance: the vendor's own clients against the emulator")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.conformance)


@pytest.fixture(scope="session")
def tally() -> Tally:
    """Counts what held, by client and surface; the table at the end of the run."""
    return CONFORMANCE.tally


@pytest.fixture(scope="session")
def environment() -> Callable[[str], vendor.Environment]:
    """The environment of a release, made when the first test needs it."""

    @cache
    def installed(version: str) -> vendor.Environment | vendor.NotInstalled:
        try:
            return vendor.install(version)
        except vendor.NotInstalled as error:
            return error

    def get(version: str) -> vendor.Environment:
        found = installed(version)
        if isinstance(found, vendor.Environment):
            return found
        if os.environ.get("CI") == "true":
            pytest.fail(f"the vendor's client cannot be installed: {found}")
        pytest.skip(f"the vendor's client cannot be installed: {found}")

    return get


@pytest.fixture(scope="session")
def player(
    environment: Callable[[str], vendor.Environment], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], vendor.Player]]:
    """The process that plays the scenes of one script with one release."""
    with ExitStack() as running:

        @cache
        def started(version: str, script: str) -> vendor.Player:
            made = vendor.Player(environment(version), script, tmp_path_factory.mktemp("home"))
            running.callback(made.close)
            return made

        yield started


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Emulator]]:
    """Starts an emulator for one test; its clock stands still and one key fits, unless the options say otherwise."""
    with ExitStack() as running:
        data = tmp_path / "emulator"
        yield lambda **options: running.enter_context(emulator(data, **{"api_key": KEY, **options}))


@pytest.fixture
def play(
    player: Callable[[str, str], vendor.Player], start: Callable[..., Emulator], tmp_path: Path, tally: Tally
) -> Callable[..., Emulator]:
    """Plays a scene; every check of it must hold, and there must be some.

    Without a service the scene has an emulator of its own, which is what is given back. `more` are facts for the scene.
    """

    def run(
        surface: vendor.Surface,
        profile: str,
        scene: str,
        *,
        service: Emulator | None = None,
        more: Mapping[str, Any] = NOTHING,
        **options: Any,
    ) -> Emulator:
        performer = player(surface.version, surface.script)
        service = service or start(profile=profile, **options)
        checks = performer.play(scene, service, {**facts.facts(profile, tmp_path), **more})
        broken = [str(check) for check in checks if not check.holds]
        assert checks
        assert not broken, "\n".join(broken)
        tally[f"dashscope {surface.version}", f"{surface.script}, {profile}"] += len(checks)
        return service

    return run


@pytest.fixture(scope="session")
def prompt(
    environment: Callable[[str], vendor.Environment], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], vendor.Prompt]]:
    """The process in which the lines of a release's command are typed."""
    with ExitStack() as running:

        @cache
        def started(version: str) -> vendor.Prompt:
            made = vendor.Prompt(environment(version), tmp_path_factory.mktemp("home"))
            running.callback(made.close)
            return made

        yield started


@pytest.fixture
def typist(
    prompt: Callable[[str], vendor.Prompt], tmp_path: Path, tally: Tally
) -> Callable[[str, Emulator, str], vendor.Typist]:
    """Somebody with the command of a release, in front of an emulator of a profile."""
    home = tmp_path / "home"
    home.mkdir()

    def sit_down(version: str, service: Emulator, profile: str) -> vendor.Typist:
        def held(count: int) -> None:
            tally[f"dashscope {version}", f"command, {profile}"] += count

        return vendor.Typist(prompt(version), service, home, held)

    return sit_down


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Where a file of each kind of data lies."""
    return {kind: str(path) for kind, path in facts.write_files(tmp_path).items()}
