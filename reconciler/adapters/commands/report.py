"""`reconciler report`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from reconciler.adapters import options
from reconciler.adapters.options import Target

if TYPE_CHECKING:
    from reconciler.report import Aftermath


@click.command()
@click.argument("plan_file", metavar="PLANFILE", type=click.Path())
@click.option("--applied", is_flag=True, help="Insist on what the apply came to: ask the service for it.")
@click.option("--picture", default="", type=click.Path(), metavar="FILE.svg", help="Draw the loss into this file.")
@click.option("--post", type=click.Choice(["github", "gitlab"]), help="Make it our comment below the pull request.")
@click.option("--pull", type=click.IntRange(1, 10**9), help="Which one, where the CI job is about none.")
@options.service
@options.output("markdown", "text", "json", "yaml")
@options.color
def report(
    target: Target, plan_file: str, applied: bool, picture: str, post: str | None, pull: int | None, output: str
) -> int:
    """A plan that `plan --out` saved, as the one comment below a pull request: what would happen, what it costs, and
    what lint has against the data. Never a row of them.

    Needs the file alone. Where the manifests can be read, and their state says that the plan was begun, it also tells
    what it came to, with the loss of the runs and the bill.

    --post makes the comment, or edits the one that is there. docs/report.md says what its token must be allowed.
    """
    from reconciler.adapters import planfile, pull_request, review, terminal
    from reconciler.adapters.output import result
    from reconciler.errors import UsageError
    from reconciler.render import report as words

    if pull and not post:
        raise UsageError("--pull says where to post", hint="reconciler report PLANFILE --post github --pull N")
    forge = pull_request.pull_request(post, pull) if post else None
    saved, heading, collections = planfile.explained(plan_file)
    target = replace(target, environment=target.environment or saved.bound.stamp.environment)
    planfile.check_environment(saved, plan_file, target.environment)
    given = click.get_current_context().get_parameter_source("files") is not ParameterSource.DEFAULT
    told = review.reviewed(saved, target, given=given, insisted=applied)
    if picture:
        picture = _drawn(picture, heading.stack, told.aftermath)

    def page(width: int | None = None) -> words.Page:
        return words.report_page(told, heading, collections, picture=picture, width=width)

    result(
        output,
        lambda: words.report_json(told, heading, collections),
        lambda width: words.report_text(page(width)),
        markdown=lambda: words.markdown(page()),
    )
    if forge:
        from reconciler import forge as forges
        from reconciler.render.words import count

        posted = forges.post(forge, words.markdown(page()))
        terminal.mention(f"{forge.name}: comment {posted.id} {posted.done}")
        if posted.others:
            these = count(posted.others, "comment begins", "comments begin")
            terminal.mention(f"  {these} like ours and was not written by this token: left alone")
    return 0


def _drawn(path: str, stack: str, came: Aftermath | None) -> str:
    """The path of the picture; "" where there is nothing to draw yet."""
    from reconciler.adapters import planfile, terminal
    from reconciler.errors import UsageError
    from reconciler.render.picture import picture

    if not path.endswith(".svg"):
        raise UsageError("--picture writes SVG", hint="name the file NAME.svg")
    drawn = picture(f"loss, {stack}", came.trained if came else ())
    if not (came and came.trained):
        terminal.mention("no run of this plan measured anything yet: nothing was drawn")
        return ""
    planfile.write(path, drawn)
    return path
