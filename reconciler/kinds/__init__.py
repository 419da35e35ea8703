"""The kinds, discovered: every module here holds one, the class whose name is the module's without underscores.

Dropping a file in this folder is the whole change: manifests, diff, plan, commands and the contract tests pick it up.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from reconciler.catalogue import ProfileCatalogue
from reconciler.resource import Collection, Resource, Spec


def _discovered() -> dict[str, type[Spec]]:
    found: dict[str, type[Spec]] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        members = vars(import_module(f"{__name__}.{module.name}"))
        kind = next(value for name, value in members.items() if name.lower() == module.name.replace("_", ""))
        found[kind.__name__] = kind
    return found


KINDS: Mapping[str, type[Spec]] = _discovered()
RESOURCES: Mapping[str, type[Resource]] = {name: kind for name, kind in KINDS.items() if issubclass(kind, Resource)}


def collections(profile: ProfileCatalogue) -> dict[str, Collection]:
    """Every collection of every kind, by name, speaking the wire of this profile."""
    return {cls.name: cls(profile) for kind in RESOURCES.values() for cls in kind.collections}


def kind_in(collection: str) -> str:
    """The name of the kind whose objects a collection holds."""
    return next(name for name, kind in RESOURCES.items() if any(cls.name == collection for cls in kind.collections))


def kind_of(address: str) -> type[Resource]:
    """The class behind `Kind/name`."""
    return RESOURCES[address.partition("/")[0]]
