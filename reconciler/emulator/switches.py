"""The facts nobody documents, or that two pages tell differently: each a switch with a default per profile.

`SWITCHES` is the one table (contract §11). A test turns a switch to see that the client survives both worlds; nothing
else about the emulator can be configured.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

OLD, NEW = "dec-2024", "2026"
PROFILES = (OLD, NEW)


@dataclass(frozen=True)
class Switch:
    """`values` are the words it takes; none means a whole number from `least` on. `defaults` are per profile."""

    about: str
    defaults: Mapping[str, str | int]
    values: tuple[str, ...] = ()
    least: int = 0


ON_OFF = ("on", "off")
NUMBER_MAX = 10**9


def _always(value: str | int) -> Mapping[str, str | int]:
    return MappingProxyType(dict.fromkeys(PROFILES, value))


def _by_profile(old: str | int, new: str | int) -> Mapping[str, str | int]:
    return MappingProxyType({OLD: old, NEW: new})


SWITCHES: Mapping[str, Switch] = MappingProxyType(
    {
        "files.native_stores_purpose": Switch("the native upload keeps `purpose` and shows it", _always("off"), ON_OFF),
        "files.limits": Switch(
            "quotas: old = 300 MB, 5 GB, 100 files; new = 300 MB, 100 GB, 10,000 files; none = 300 MB for a file alone",
            _by_profile("old", "new"),
            ("old", "new", "none"),
        ),
        "files.delete_in_use": Switch(
            "deleting a file that an unfinished job uses", _always("allow"), ("allow", "refuse")
        ),
        "jobs.require_core_hparams": Switch(
            "n_epochs, batch_size and max_length must be sent", _by_profile("off", "on"), ON_OFF
        ),
        "jobs.early_finetuned_output": Switch(
            "a job shows the id of its model before it has succeeded", _always("on"), ON_OFF
        ),
        "jobs.echo_datasets": Switch(
            "a job shows its data as file ids, or as data set objects with the ids empty",
            _by_profile("ids", "datasets"),
            ("ids", "datasets"),
        ),
        "jobs.delete_refused_when": Switch(
            "deleting a job is refused while it is unfinished, once it is finished, or never",
            _always("running"),
            ("running", "terminal", "never"),
        ),
        "jobs.cancel_allowed_from": Switch(
            "which jobs can be canceled", _always("non-terminal"), ("running", "non-terminal")
        ),
        "jobs.parallel": Switch("how many jobs train at a time; the others queue", _always(1), least=1),
        "jobs.quota_running_plus_succeeded": Switch("how many unfinished and succeeded jobs fit", _always(20), least=1),
        "deployments.delete_requires_stopped": Switch(
            "only a stopped or failed deployment can be deleted", _always("off"), ON_OFF
        ),
        "deployments.id_style": Switch(
            "how `deployed_model` is made: plain = model[-suffix], hash = model-hash, "
            "hash+suffix = model-hash[-suffix], mixed = plain for a tuned model without suffix, else hash+suffix",
            _by_profile("plain", "mixed"),
            ("plain", "hash", "hash+suffix", "mixed"),
        ),
        "deployments.returns_name": Switch("a deployment shows its display name", _always("off"), ON_OFF),
        "deployments.visibility_lag_s": Switch(
            "emulated seconds between RUNNING and the first call that finds the model", _always(60)
        ),
        "vocab.quota": Switch("how many vocabularies fit", _always(10), least=1),
        "vocab.settle_s": Switch("emulated seconds a written vocabulary stays UNDEPLOYED", _always(0)),
        "http.unknown_field": Switch(
            "unknown members of a request; by-endpoint = ignored by the native API, refused by the OpenAI-shaped files",
            _always("by-endpoint"),
            ("by-endpoint", "ignore", "refuse"),
        ),
    }
)


class Switches:
    """The positions in force, read by the type each switch has."""

    def __init__(self, profile: str, turned: Mapping[str, object]) -> None:
        """Raises ValueError for an unknown switch (with a suggestion) or a value it does not take."""
        self._values = {name: switch.defaults[profile] for name, switch in SWITCHES.items()}
        for name, value in turned.items():
            self._values[name] = _position(name, value)

    def on(self, name: str) -> bool:
        return self._values[name] == "on"

    def choice(self, name: str) -> str:
        return str(self._values[name])

    def number(self, name: str) -> int:
        return int(self._values[name])

    def as_json(self) -> dict[str, str | int]:
        return dict(self._values)


def _position(name: str, value: object) -> str | int:
    switch = SWITCHES.get(name)
    if switch is None:
        near = difflib.get_close_matches(name, SWITCHES, n=1)
        raise ValueError(f"unknown emulator switch {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    if not switch.values:
        if not isinstance(value, int) or isinstance(value, bool) or not switch.least <= value <= NUMBER_MAX:
            raise ValueError(
                f"emulator switch {name} takes a whole number from {switch.least} to {NUMBER_MAX}, not {_shown(value)}"
            )
        return value
    word = ("on" if value else "off") if isinstance(value, bool) else value
    if not isinstance(word, str) or word not in switch.values:
        raise ValueError(f"emulator switch {name} takes {', '.join(switch.values)}, not {_shown(value)}")
    return word


def _shown(value: object) -> str:
    try:
        return repr(value)[:100]
    except ValueError:  # Python writes no number of more than some thousand digits
        return "so long a number"
