"""What Prometheus is told: one table of metrics, counts of this process, and numbers read off the last reports.

Counting needs no library. Only `exposition` does, and the program runs without it; a scrape then says what is missing.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from reconciler import __version__
from reconciler.conditions import Report
from reconciler.errors import ReconcilerError, StateLocked
from reconciler.store.fleet import Queue
from reconciler.wording import is_hidden

LABEL_MAX = 120
BUCKETS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metric(NamedTuple):
    """One name with its meaning; a counter is named with the `_total` it is written with."""

    name: str
    kind: str
    about: str
    labels: tuple[str, ...] = ()


OF_STACK = ("stack",)
METRICS = (
    Metric("reconciler_build_info", "gauge", "Always 1; the label says which version runs.", ("version",)),
    Metric(
        "reconciler_looks_total", "counter", "Looks that this process finished, by what they came to.", ("verdict",)
    ),
    Metric("reconciler_look_duration_seconds", "histogram", "How long the looks of this process took."),
    Metric("reconciler_look_errors_total", "counter", "Looks that came to nothing, by the kind of error.", ("error",)),
    Metric("reconciler_lease_waits_total", "counter", "Looks put off because another run held the state."),
    Metric(
        "reconciler_api_calls_total",
        "counter",
        "Requests sent to the service, repeats included: ok, or the kind of error.",
        ("operation", "outcome"),
    ),
    Metric("reconciler_notifications_total", "counter", "Notifications: sent, failed or dropped.", ("outcome",)),
    Metric("reconciler_fleet_reachable", "gauge", "1 where the list of stacks could be read for this scrape, else 0."),
    Metric("reconciler_stacks", "gauge", "Stacks in the list."),
    Metric("reconciler_stacks_due", "gauge", "Stacks that are due and that nobody looks at yet: the queue."),
    Metric("reconciler_stacks_claimed", "gauge", "Stacks that a controller is looking at."),
    Metric(
        "reconciler_stack_run_rate_cny_per_hour",
        "gauge",
        "What the stack costs an hour; left out where a price is not known.",
        OF_STACK,
    ),
    Metric(
        "reconciler_stack_budget_cny_per_hour",
        "gauge",
        "The strictest hourly budget; left out where there is none.",
        OF_STACK,
    ),
    Metric(
        "reconciler_stack_operations_awaiting_approval", "gauge", "Operations that nobody has agreed to yet.", OF_STACK
    ),
    Metric("reconciler_stack_failures", "gauge", "Looks in a row that came to nothing.", OF_STACK),
    Metric(
        "reconciler_stack_last_look_timestamp_seconds", "gauge", "When it was last looked at; 0 for never.", OF_STACK
    ),
    Metric(
        "reconciler_stack_last_success_timestamp_seconds",
        "gauge",
        "When a look last succeeded; 0 for never. time() minus it is the time since.",
        OF_STACK,
    ),
    Metric(
        "reconciler_objects",
        "gauge",
        "Objects by how they are; OutOfSync counts drift.",
        ("stack", "kind", "sync", "health"),
    ),
    Metric(
        "reconciler_object_statuses",
        "gauge",
        "Objects by the service's own word for them.",
        ("stack", "kind", "status"),
    ),
)


class Sample(NamedTuple):
    """One number under the labels of its metric, in their order."""

    name: str
    labels: tuple[str, ...]
    value: float


@dataclass
class Tally:
    """What this process has done so far. Thread-safe; as many numbers as there are words, whatever happens."""

    counts: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, *labels: str) -> None:
        with self._lock:
            self.counts[name, labels] += 1

    def called(self, operation: str, outcome: str) -> None:
        """One request and what came of it."""
        self.add("reconciler_api_calls_total", operation, outcome)

    def looked(self, verdict: str, took_s: float, cause: str = "") -> None:
        """One look; `cause` names the kind of error that it ended with, "" for none."""
        self.add("reconciler_looks_total", verdict)
        if cause:
            self.add("reconciler_look_errors_total", cause)
        if cause == StateLocked.__name__:
            self.add("reconciler_lease_waits_total")
        with self._lock:
            self.seconds += took_s
            self.buckets[bisect_left(BUCKETS_S, took_s)] += 1

    @property
    def looks(self) -> int:
        with self._lock:
            return sum(self.buckets)

    def samples(self) -> tuple[Sample, ...]:
        with self._lock:
            return tuple(Sample(name, labels, count) for (name, labels), count in sorted(self.counts.items()))


def samples(tally: Tally, reports: Sequence[Report], queue: Queue | None) -> Iterator[Sample]:
    """Every number but the durations; without a `queue` the list of stacks could not be read."""
    yield Sample("reconciler_build_info", (__version__,), 1)
    yield from tally.samples()
    if not any(sample.name == "reconciler_lease_waits_total" for sample in tally.samples()):
        yield Sample("reconciler_lease_waits_total", (), 0)
    yield Sample("reconciler_fleet_reachable", (), 0 if queue is None else 1)
    if queue is not None:
        yield Sample("reconciler_stacks", (), queue.stacks)
        yield Sample("reconciler_stacks_due", (), queue.due)
        yield Sample("reconciler_stacks_claimed", (), queue.claimed)
    for report in reports:
        yield from _of_stack(report)


def _of_stack(report: Report) -> Iterator[Sample]:
    of = (_label(report.stack),)
    if report.succeeded_at and report.hour is not None:
        yield Sample("reconciler_stack_run_rate_cny_per_hour", of, float(report.hour))
    if report.limit is not None:
        yield Sample("reconciler_stack_budget_cny_per_hour", of, float(report.limit))
    yield Sample("reconciler_stack_operations_awaiting_approval", of, len(report.held))
    yield Sample("reconciler_stack_failures", of, report.failures)
    yield Sample("reconciler_stack_last_look_timestamp_seconds", of, _timestamp(report.looked_at))
    yield Sample("reconciler_stack_last_success_timestamp_seconds", of, _timestamp(report.succeeded_at))
    kinds = [(_label(one.slot.partition("/")[0]), one) for one in report.conditions]
    words = Counter((kind, one.sync.value, one.health.value) for kind, one in kinds)
    yield from (Sample("reconciler_objects", (*of, *labels), count) for labels, count in sorted(words.items()))
    statuses = Counter((kind, _label(one.status)) for kind, one in kinds if one.status)
    yield from (Sample("reconciler_object_statuses", (*of, *labels), n) for labels, n in sorted(statuses.items()))


def _timestamp(written: str) -> float:
    return datetime.fromisoformat(written).replace(tzinfo=UTC).timestamp() if written else 0.0


def _label(text: str) -> str:
    """A word from outside as the value of a label."""
    return "".join("?" if is_hidden(letter) or letter in "\n\t" else letter for letter in text[:LABEL_MAX])


def exposition(tally: Tally, reports: Sequence[Report], queue: Queue | None) -> tuple[bytes, str]:
    """All of it as Prometheus reads it, and the content type. Raises ReconcilerError where the library is missing."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError as error:
        hint = "pip install 'bailian-reconciler[metrics]'"
        raise ReconcilerError("the library that writes metrics is not installed", hint=hint) from error
    registry = CollectorRegistry()
    registry.register(_Families(tally, tuple(samples(tally, reports, queue))))
    return generate_latest(registry), CONTENT_TYPE_LATEST


@dataclass(frozen=True, eq=False)  # the registry keeps collectors by who they are
class _Families:
    """The numbers as the library wants them."""

    tally: Tally
    told: tuple[Sample, ...]

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        by_name: dict[str, list[Sample]] = {}
        for sample in self.told:
            by_name.setdefault(sample.name, []).append(sample)
        made: Mapping[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        for metric in METRICS:
            if metric.kind == "histogram":
                histogram = HistogramMetricFamily(metric.name, metric.about)
                histogram.add_metric([], *self._durations())
                yield histogram
                continue
            family = made[metric.kind](metric.name, metric.about, labels=metric.labels)
            for sample in by_name.get(metric.name, ()):
                family.add_metric(list(sample.labels), sample.value)
            yield family

    def _durations(self) -> tuple[list[tuple[str, float]], float]:
        """How many looks took up to so long, for every bound, and how long all of them took together."""
        bounds, total, cumulated = [*map(str, BUCKETS_S), "+Inf"], 0, []
        for bound, count in zip(bounds, self.tally.buckets, strict=True):
            total += count
            cumulated.append((bound, float(total)))
        return cumulated, self.tally.seconds
