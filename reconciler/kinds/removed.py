"""Removed: a tombstone. What its addresses hold is let go by the next apply, without --prune."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reconciler.resource import Spec


class Removed(Spec):
    """Addresses that no document declares any more, and whose objects are to go as their deletionPolicy says.

    A `lifecycle.deletionPolicy` beside it takes the place of the one that was remembered. The tombstone itself can go
    once every environment has applied it.
    """

    addresses: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z]+/[a-z0-9][a-z0-9-]{0,62}$")]],
        Field(min_length=1, max_length=100, description="What is to go, each as KIND/NAME."),
    ]
