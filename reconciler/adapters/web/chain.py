"""A stack as a chain of columns, one a kind, with lines from what is used to what uses it.

Columns are as wide as the style sheet makes them and cards all of one height, so that lines can be drawn by numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.adapters.web.live import Seen
from reconciler.conditions import Condition, Health, Sync
from reconciler.graph import dependencies
from reconciler.kinds import RESOURCES
from reconciler.money import total
from reconciler.render.changes import ACTION_WORDS
from reconciler.render.state import Item
from reconciler.resource import Action

CARDS_MAX = 40  # in a column; the rest is found by name
GAP = 6.0  # between columns, in percent of the whole: `.chain` in page.css has the same
CARD, ROW = 9.0, 10.0  # of a card, and from one card to the next, in rem: so has `.card`


@dataclass(frozen=True)
class Card:
    """One address: how all that it holds is, and what would happen to it."""

    address: str
    sync: Sync
    health: Health
    statuses: tuple[str, ...]
    hour: str | None
    since: str
    actions: tuple[str, ...]
    made_from: tuple[str, ...]
    used_by: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.address.partition("/")[0]

    @property
    def name(self) -> str:
        return self.address.partition("/")[2]


@dataclass(frozen=True)
class Column:
    """The cards of one kind; `hidden` more would be too many."""

    kind: str
    cards: tuple[Card, ...]
    hidden: int


def cards(seen: Seen, find: str = "") -> tuple[Card, ...]:
    """Every address that is declared or owned, or those whose name contains `find`; by address."""
    documents = {one.address: one for one in seen.opened.session.project.documents if one.kind in RESOURCES}
    before = _before(seen)
    after: dict[str, list[str]] = {}
    for address, used in before.items():
        for one in used:
            after.setdefault(one, []).append(address)
    found: dict[str, list[Condition]] = {address: [] for address in sorted(documents)}
    for condition in seen.report.conditions:
        found.setdefault(address_of(condition.slot), []).append(condition)
    items: dict[str, list[Item]] = {}
    for item in seen.items:
        items.setdefault(item.slot.address, []).append(item)
    actions: dict[str, list[str]] = {}
    for op in seen.snapshot.plan.operations:
        if op.action is not Action.WAIT:
            actions.setdefault(op.slot.address, []).append(ACTION_WORDS[op.action])
    return tuple(
        _card(
            address,
            conditions,
            items.get(address, ()),
            tuple(dict.fromkeys(actions.get(address, ()))),
            before.get(address, ()),
            tuple(sorted(after.get(address, ()))),
        )
        for address, conditions in sorted(found.items())
        if find.casefold() in address.casefold()
    )


def address_of(slot: str) -> str:
    return slot.partition(":")[0]


def _before(seen: Seen) -> dict[str, tuple[str, ...]]:
    """What each address is made from: as it is declared, else as it was made."""
    documents = seen.opened.session.project.documents
    found = dict(dependencies(documents))
    rows = {row.key: row.slot.address for row in seen.snapshot.state.owned.values()}
    for row in seen.snapshot.state.owned.values():
        if row.slot.address not in found:
            found[row.slot.address] = tuple(sorted({rows[key] for key in row.uses if key in rows}))
    return found


def _card(
    address: str,
    conditions: Sequence[Condition],
    items: Sequence[Item],
    actions: tuple[str, ...],
    made_from: tuple[str, ...],
    used_by: tuple[str, ...],
) -> Card:
    hour = total(one.hour for one in items)
    synced = all(one.sync is Sync.SYNCED for one in conditions)
    return Card(
        address,
        Sync.SYNCED if synced else Sync.OUT_OF_SYNC,
        max((one.health for one in conditions), key=list(Health).index, default=Health.READY),
        tuple(dict.fromkeys(one.status for one in items)),
        None if hour is None else str(hour),
        max((one.since for one in conditions), default=""),
        actions,
        made_from,
        used_by,
    )


def columns(found: Sequence[Card]) -> tuple[Column, ...]:
    """A column for each kind that there is, in the order in which one is made from the other."""
    kinds = _kinds_in_order(found)
    made: list[Column] = []
    rows: dict[str, float] = {}
    for kind in kinds:
        mine = sorted((one for one in found if one.kind == kind), key=lambda one: (_height(one, rows), one.address))
        shown = tuple(mine[:CARDS_MAX])
        rows |= {one.address: float(number) for number, one in enumerate(shown)}
        made.append(Column(kind, shown, len(mine) - len(shown)))
    return tuple(made)


def _kinds_in_order(found: Sequence[Card]) -> list[str]:
    """Kinds that use another one come after it; what has to do with none comes last."""
    present = {one.kind for one in found}
    used = {(address_kind, one.kind) for one in found for address_kind in map(_kind, one.made_from)}
    depth = dict.fromkeys(present, 0)
    for _ in present:
        for before, after in used:
            if before in depth and before != after:
                depth[after] = min(len(present), max(depth[after], depth[before] + 1))
    alone = {kind for kind in present if not any(kind in pair for pair in used)}
    order = list(RESOURCES)
    place = {kind: (kind in alone, depth[kind], order.index(kind) if kind in order else 99) for kind in present}
    return sorted(present, key=lambda kind: (place[kind], kind))


def _kind(address: str) -> str:
    return address.partition("/")[0]


def _height(card: Card, rows: Mapping[str, float]) -> float:
    """Where it would have to be to lie beside what it is made from; at the end where that is nothing shown."""
    beside = [rows[one] for one in card.made_from if one in rows]
    return sum(beside) / len(beside) if beside else float(len(rows))


def lines(drawn: Sequence[Column]) -> tuple[str, ...]:
    """From the right edge of a card to the left edge of what uses it, each as a path of an SVG.

    In a box 100 wide and `height` high: percent of the width across, rem down.
    """
    width = (100 - GAP * (len(drawn) - 1)) / max(1, len(drawn))
    left = [number * (width + GAP) for number in range(len(drawn))]
    at = {
        card.address: (left[number], row * ROW + CARD / 2)
        for number, column in enumerate(drawn)
        for row, card in enumerate(column.cards)
    }
    found: list[str] = []
    for column in drawn:
        for card in column.cards:
            for used in card.made_from:
                if used in at and at[used][0] < at[card.address][0]:
                    (x0, y0), (x1, y1) = at[used], at[card.address]
                    found.append(_curve(x0 + width, y0, x1, y1))
    return tuple(found)


def _curve(x0: float, y0: float, x1: float, y1: float) -> str:
    """Level at both ends; it bends just before the end, in the gap, so that it crosses no card of a nearby column."""
    middle = x1 - GAP / 2
    return f"M{x0:.2f} {y0:.2f}H{x1 - GAP:.2f}C{middle:.2f} {y0:.2f} {middle:.2f} {y1:.2f} {x1:.2f} {y1:.2f}"


def height(drawn: Sequence[Column]) -> float:
    most = max((len(column.cards) for column in drawn), default=0)
    return max(0.0, most * ROW - (ROW - CARD))


def edges(found: Sequence[Card]) -> list[tuple[str, str]]:
    """From what is used to what uses it."""
    return [(used, one.address) for one in found for used in one.made_from]
