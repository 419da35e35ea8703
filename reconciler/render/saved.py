"""A saved plan as a page: what it is and how long it is good for, around the page of the plan itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from reconciler.render.plan import Heading, plan_text
from reconciler.render.plan_json import choices_words
from reconciler.render.words import Line, clean, listed, page
from reconciler.resource import Collection
from reconciler.saved import Saved


def saved_text(
    saved: Saved,
    heading: Heading,
    collections: Mapping[str, Collection],
    *,
    file: str,
    at: datetime,
    width: int | None = None,
) -> str:
    """The whole page. Whether it could still be applied is not known here, but whether it is too old at `at`."""
    plan = plan_text(heading, saved.plan, collections, objects=saved.bound.held, width=width)
    return "\n".join([page(_about(saved), width), "", plan, "", page(_what_next(saved, file, at), width)])


def _about(saved: Saved) -> Iterator[Line]:
    yield Line(f"saved plan {saved.digest[:12]} · made {_moment(saved.made_at)} by reconciler {clean(saved.tool)}")
    files = listed([clean(name) for name in saved.bound.manifests])
    paths = " ".join(f"-f {clean(path)}" for path in saved.made_from)
    yield Line(f"made from {files} ({paths})")
    if options := choices_words(saved.choices):
        yield Line(f"made with {clean(' '.join(options), 600)}")


def _what_next(saved: Saved, file: str, at: datetime) -> Iterator[Line]:
    if at >= saved.expires_at:
        yield Line(f"it expired {_moment(saved.expires_at)}: plan again", {"fg": "red", "bold": True})
        return
    environment = saved.bound.stamp.environment
    command = f"reconciler apply {clean(file)}" + (f" -e {clean(environment)}" if environment else "")
    yield Line(f"good until {_moment(saved.expires_at)}, for one apply: {command}", {"bold": True})
    yield Line("only that apply can tell whether all it rests on is as it was", {"dim": True})


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
