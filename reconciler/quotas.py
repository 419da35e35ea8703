"""Limits of the account against what a plan would add to it, before anything is sent. Pure.

What the service lists counts, whoever made it. A limit that its own pages tell differently warns from the lowest number
on and stops only beyond the highest: the account decides, and no page knows which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.catalogue import Limits
from reconciler.plan import SUPERSEDED, Note, Plan, Verb, World
from reconciler.resource import Collection, Quota


@dataclass(frozen=True)
class Need:
    """How much of one limit there would be: `most` while old and new are there at once, `least` in the best case.

    `limits` are all numbers that pages tell, in order.
    """

    what: str
    used: int
    least: int
    most: int
    limits: tuple[int, ...]
    of_bytes: bool

    @property
    def certain(self) -> bool:
        """Whether it goes over however things happen and whichever page is right."""
        return self.least > self.limits[-1]

    @property
    def possible(self) -> bool:
        return self.most > self.limits[0]


def needs(
    plan: Plan, world: World, collections: Mapping[str, Collection], limits: Limits, others: Sequence[Limits]
) -> tuple[Need, ...]:
    """What the plan's creations come to beside what is there, for each limit that they touch. `others`: other pages."""
    making = sorted({op.collection for op in plan.operations if op.verb is Verb.CREATE})
    return tuple(need for name in making for need in _needs(plan, world, collections[name], limits, others))


def _needs(
    plan: Plan, world: World, collection: Collection, limits: Limits, others: Sequence[Limits]
) -> Iterator[Need]:
    ops = [op for op in plan.operations if op.collection == collection.name]
    parts = [op.part for op in ops if op.verb is Verb.CREATE and op.part]
    # What a creation replaces goes after it; any other deletion may come first.
    going = {op.target_id for op in ops if op.verb is Verb.DELETE and op.why != SUPERSEDED}
    seen = world.objects.get(collection.name, {})
    kept = [one for key, one in seen.items() if key not in going]
    told: list[tuple[Quota, ...]] = [collection.quotas([*seen.values()], one, parts) for one in (limits, *others)]
    for quota, rest, *same in zip(told[0], collection.quotas(kept, limits, parts), *told[1:], strict=True):
        if quota.wanted:
            yield Need(
                what=quota.what,
                used=quota.used,
                least=rest.used + quota.wanted,
                most=quota.used + quota.wanted,
                limits=tuple(sorted({quota.limit, *(other.limit for other in same)})),
                of_bytes=quota.of_bytes,
            )


def amount(number: int, *, of_bytes: bool) -> str:
    if not of_bytes:
        return f"{number:,}"
    return f"{number / 10**9:,.1f} GB" if number >= 10**9 else f"{number / 10**6:,.1f} MB"


def notes(found: Sequence[Need]) -> Iterator[Note]:
    """A warning for each limit that may be gone over; what certainly is stops an apply and is told there."""
    for need in found:
        if need.possible and not need.certain:
            first, *rest = (amount(limit, of_bytes=need.of_bytes) for limit in need.limits)
            disputed = f", or {' or '.join(rest)} by other pages of the service" if rest else ""
            would = f"{amount(need.most, of_bytes=need.of_bytes)} of {first}{disputed}"
            hint = "what goes beyond it is refused: delete what nobody uses first, or have it raised"
            yield Note(need.what, f"would be {would}", hint, warning=True)
