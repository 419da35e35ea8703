"""Money beyond a single price: what finished runs teach about the next estimate, and what a rate comes to. Pure.

Nothing here rounds a price up or down; an unknown one stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from statistics import median
from typing import NamedTuple

from reconciler.resource import Collection, Observed, Phase, Price, Slot
from reconciler.state import MADE, Intent, Owned, State

HOURS_A_MONTH = 730
OVERLAP = timedelta(minutes=10)  # how long both sides of a swap run; deploying takes 5 to 10 minutes (contract §3.4)
LATEST = 20  # runs that are learnt from: what was long ago may have been counted otherwise
_CENT = Decimal("0.01")


def a_month(hour: Decimal | None) -> Decimal | None:
    """What an hourly rate comes to in a month in which nothing changes."""
    return None if hour is None else hour * HOURS_A_MONTH


def total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """A sum in which one unknown makes all of it unknown."""
    known = [*amounts]
    return None if None in known else sum((cny for cny in known if cny is not None), Decimal(0))


def overlap(hour: Decimal | None) -> Decimal | None:
    """What the old side of a swap costs while the new one runs already."""
    return None if hour is None else (hour * int(OVERLAP.total_seconds()) / 3600).quantize(_CENT)


# What was bought ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run that was paid for. `tokens` is what one pass was foreseen to read, `used` what the service counted.

    None is not known: `used` also as long as it goes on. `failed`: it ended without what it was bought for.
    `token_price` is CNY for one token once.
    """

    slot: Slot
    collection: str
    id: str
    at: str
    status: str
    base: str
    tokens: int | None
    counted: bool
    passes: int
    used: int | None
    failed: bool
    token_price: Decimal | None

    @property
    def teaches(self) -> bool:
        """Whether its estimate can be held against what it used; a hundredfold is no miss but another meaning."""
        if self.failed or not self.tokens or not self.used:
            return False
        return self.tokens <= 100 * self.used and self.used <= 100 * self.tokens * self.passes


def bought(
    state: State,
    shown: Mapping[str, Mapping[str, Observed]],
    collections: Mapping[str, Collection],
    *,
    before: int | None = None,
) -> tuple[Run, ...]:
    """Every creation that costs something once, oldest first, also of what is no longer ours.

    `shown` is what the service shows now. With `before`, only what was asked for under an earlier lease than that.
    """
    intents = [i for i in state.intents.values() if i.verb == "create" and i.phase in MADE]
    early = (i for i in intents if before is None or i.epoch < before)
    runs = (_run(i, state, shown, collections.get(i.collection)) for i in sorted(early, key=lambda i: (i.at, i.op_id)))
    return tuple(run for run in runs if run is not None)


def _run(
    intent: Intent, state: State, shown: Mapping[str, Mapping[str, Observed]], collection: Collection | None
) -> Run | None:
    if collection is None:
        return None
    million = collection.price(intent.fields, base=intent.base, tokens=10**6).once
    if million == 0:
        return None
    passes = collection.passes(intent.fields)
    seen = shown.get(intent.collection, {}).get(intent.result_id)
    row = state.owned.get(f"{intent.collection}/{intent.result_id}")
    going_on = seen is not None and seen.phase not in (Phase.READY, Phase.FAILED)
    used = None if going_on else (seen.outputs if seen else row.outputs if row else {}).get("tokens")
    return Run(
        slot=intent.slot,
        collection=intent.collection,
        id=intent.result_id,
        at=intent.at,
        status=seen.status if seen else "",
        base=intent.base,
        tokens=intent.tokens,
        counted=intent.counted,
        passes=passes,
        used=used if isinstance(used, int) else None,
        failed=_failed(seen, row),
        token_price=None if million is None else million / passes / 10**6,
    )


def _failed(seen: Observed | None, row: Owned | None) -> bool:
    return seen.phase is Phase.FAILED if seen else bool(row and row.failure)


def billed(run: Run, runs: Sequence[Run]) -> int | None:
    """The tokens that a run is billed for: what the service counted, else what was foreseen; None: nobody knows.

    What fails by itself is not billed, and what a person cancels is billed as far as it got (contract §2.13).
    """
    if run.used is not None:
        return run.used * (1 if counts_passes(runs) else run.passes)
    if run.failed:
        return 0
    return None if run.tokens is None else run.tokens * run.passes


def spent(run: Run, runs: Sequence[Run]) -> Decimal | None:
    """What a run cost at the prices of now; None: nobody knows."""
    tokens = billed(run, runs)
    if run.failed and run.used is None:
        return Decimal(0)
    return None if tokens is None or run.token_price is None else tokens * run.token_price


# What it teaches ------------------------------------------------------------------------------------------------------


class Calibration(NamedTuple):
    """What an estimate is to be multiplied by, how far off it may still be (0.08 is 8 %), and by how many runs."""

    factor: Decimal
    error: Decimal
    runs: int


def calibration(runs: Sequence[Run], *, base: str, counted: bool) -> Calibration | None:
    """What finished runs of the same base model, whose tokens were foreseen in the same way, teach; None: nothing.

    The factor is the median of used over foreseen. The error is the largest miss that this very method would have had
    on one of these runs had it known only the others: with a single run, that of the bare estimate.
    """
    every = counts_passes(runs)
    alike = [run for run in runs if run.teaches and (run.base, run.counted) == (base, counted)][-LATEST:]
    ratios = [_ratio(run, every) for run in alike]
    if not ratios:
        return None
    misses = [abs(ratio / _guess([*ratios[:n], *ratios[n + 1 :]]) - 1) for n, ratio in enumerate(ratios)]
    return Calibration(_decimal(_guess(ratios)), _decimal(max(misses)), len(ratios))


def counts_passes(runs: Sequence[Run]) -> bool:
    """Whether `usage` counts each pass over the data anew. No page says (contract §2.13); the runs themselves tell.

    It is whichever reading brings all of them nearer to their estimates.
    """
    telling = [run for run in runs if run.teaches]
    return _distance(telling, every=True) <= _distance(telling, every=False)


def calibrated(price: Price, learnt: Calibration | None) -> Price:
    """The price of a run as earlier ones correct it, with its error bar in words."""
    if learnt is None or not price.once:
        return price
    factor = f" x {learnt.factor.normalize():f}" if learnt.factor != 1 else ""
    percent = max(1, math.ceil(learnt.error * 100))
    runs = f"{learnt.runs} finished run{'s' if learnt.runs != 1 else ''}"
    return replace(price, once=price.once * learnt.factor, basis=f"{price.basis}{factor} (±{percent} %, from {runs})")


def _guess(ratios: Sequence[Fraction]) -> Fraction:
    return median(ratios) if ratios else Fraction(1)


def _ratio(run: Run, every: bool) -> Fraction:
    return Fraction(run.used or 0, (run.tokens or 1) * (run.passes if every else 1))


def _distance(runs: Sequence[Run], *, every: bool) -> float:
    ratios = (_ratio(run, every) for run in runs)
    return math.fsum(abs(math.log(ratio.numerator) - math.log(ratio.denominator)) for ratio in ratios)


def _decimal(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / value.denominator).quantize(Decimal("0.001"))
