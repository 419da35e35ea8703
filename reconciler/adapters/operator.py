"""The operator's own settings: limits that no repository can lift. One file outside every project, like a manifest."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from reconciler import manifest
from reconciler.errors import ManifestError, ReconcilerError, Refused
from reconciler.resource import Budget, Spec
from reconciler.yamltext import MAX_FILE_BYTES

VARIABLE = "RECONCILER_OPERATOR_CONFIG"


class Operator(Spec):
    """What the person or machine that runs the program allows, whatever the project says."""

    budget: Budget | None = None


def budget(root: Path) -> Budget | None:
    """The operator's limits; None where there is no such file.

    Raises ManifestError for its mistakes, Refused where it lies inside the project at `root`: who can change the
    project could then change its limits.
    """
    path = _path()
    if path is None:
        return None
    if path.resolve().is_relative_to(root.resolve()):
        raise Refused(f"{path} lies inside the project it is to limit", hint=f"keep it outside, {VARIABLE} names it")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if os.environ.get(VARIABLE):  # limits that silently do not hold are none
            raise ReconcilerError(f"{VARIABLE} names {path}, which does not exist") from None
        return None
    except OSError as error:
        raise ReconcilerError(f"{path} cannot be read: {error.strerror}") from error
    parsed = manifest.parse(str(path), data, {"Operator": Operator})
    if parsed.problems or len(parsed.documents) != 1:
        raise ManifestError(parsed.problems) if parsed.problems else ReconcilerError(f"{path} holds no Operator")
    spec = parsed.documents[0].spec
    assert isinstance(spec, Operator)
    return spec.budget


def name() -> str:
    """Who gives the commands, as far as this machine knows; in a container it may have no name for them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _path() -> Path | None:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or (Path(os.environ["HOME"]) / ".config" if "HOME" in os.environ else None)
    return Path(home) / "reconciler" / "operator.yaml" if home else None
