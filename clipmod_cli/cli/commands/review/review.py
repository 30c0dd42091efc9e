"""`clipmod review`: a page on this machine where a person decides; the decisions as a file."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args

import typer

from clipmod_cli.cli.commands.results.arguments import Overwrite, say_notes
from clipmod_cli.cli.usage.help import RecordsGroup
from clipmod_cli.cli.usage.shares import read_share
from clipmod_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from clipmod_cli.review.dedupe.method import DedupeMethod
    from clipmod_cli.review.queue.contents import ContentTable, ReviewKind
    from clipmod_cli.review.queue.stacks import NearStacks
    from clipmod_cli.review.queue.walk import ReviewPlan
    from clipmod_cli.server.review.context import ReviewCategory
    from clipmod_cli.settings.definition import Settings

DEVICES: Final = "From another device"

EXAMPLES: Final = """
\b
Examples:
  clipmod review results.jsonl --decisions decisions.jsonl
  clipmod review results.jsonl --decisions d.jsonl --order severity
  clipmod review results.jsonl --decisions d.jsonl --near pdq
  clipmod review export d.jsonl -o labels.csv
  clipmod eval results.jsonl --labels d.jsonl
"""

app = typer.Typer(
    cls=RecordsGroup,
    invoke_without_command=True,
    subcommand_metavar="RECORDS... | export D.jsonl",
    epilog=EXAMPLES,
)


@app.callback()
def review(
    *,
    context: typer.Context,
    decisions: Annotated[
        Path | None,
        typer.Option(
            metavar="D.jsonl",
            help="Where decisions are written, each at once; a review goes on where it ended.",
            show_default=False,
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            metavar="ORDER",
            help="uncertain: what the models were least sure of first. severity: the worst first. random.",
        ),
    ] = "uncertain",
    audit: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Share of decisions on inputs that are drawn from all that was judged, so that rates on the "
            "decisions are not biased.",
        ),
    ] = "10%",
    only: Annotated[
        str, typer.Option(metavar="KINDS", help="What is in the queue, of nsfw, review, safe and error.")
    ] = "nsfw,review",
    near: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Decide near copies together: pdq[:BITS] (31, reads the files) or "
            "embedding[:COSINE] (0.97).",
            show_default=False,
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="EV",
            help="The folder of `scan --evidence EV`, for --near embedding.",
            show_default=False,
        ),
    ] = None,
    originals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where `clipmod urls --save-to` has put files: downloads can be shown from there.",
            show_default=False,
        ),
    ] = None,
    reviewer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who decides.  [the user's name]", show_default=False),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port of the page; 0 takes a free one.")
    ] = 0,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of the page. Any but loopback, for a phone, needs API keys.",
            rich_help_panel=DEVICES,
        ),
    ] = "127.0.0.1",
    api_keys_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="API keys, one a line; or in CLIPMOD_API_KEYS.",
            show_default=False,
            rich_help_panel=DEVICES,
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where a proxy with TLS makes the page available.",
            show_default=False,
            rich_help_panel=DEVICES,
        ),
    ] = None,
) -> None:
    """Decide on what was judged, in a page on this machine that shows pictures blurred and grey.

    A picture is sharp while B or a button is held. Nothing leaves this machine, and no file is changed.
    Decisions are labels for eval and tune.
    """
    if context.invoked_subcommand is not None:
        return
    if not context.args:
        raise UsageError("name the outputs to review, as: clipmod review results.jsonl --decisions d.jsonl")
    if decisions is None:
        raise UsageError("--decisions names the file that decisions are written to, as --decisions d.jsonl")
    _check(decisions, originals, context.args)
    plan = _plan(order, audit, only, reviewer)
    method = _near_method(near, evidence, plan, context.args)
    settings = _settings(host, port, api_keys_file, public_url)
    stacks_of = partial(_stacks_of, context.args, method, evidence)
    raise typer.Exit(_review(context.args, decisions, plan, stacks_of, originals, settings))


@app.command("export", short_help="Write decisions as labels for other programs.")
def export(
    *,
    decisions: Annotated[Path, typer.Argument(metavar="D.jsonl", help="A file of decisions.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .csv, .parquet or .jsonl file; it appears when it is complete.",
            show_default=False,
        ),
    ],
    overwrite: Overwrite = False,
) -> None:
    """Write the decisions that hold as a table of labels, a row for each content.

    Undecided and withheld inputs have no row.
    """
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.output.tables import check_table_name, write_rows
    from clipmod_cli.review.decisions import read_decisions
    from clipmod_cli.review.labels import ExportedLabel, count_left_out, labels_of

    check_table_name(output)
    check_result_path(output, [str(decisions)], overwrite=overwrite)
    state = read_decisions(decisions)
    rows = list(labels_of(state))
    write_rows(output, ExportedLabel, rows)
    left_out = count_left_out(state)
    more = (
        f" ({left_out['unsure']:,} unsure and {left_out['minor']:,} withheld have none)" if left_out else ""
    )
    typer.echo(f"{len(rows):,} labels written to {output}{more}", err=True)


def _settings(host: str, port: int, api_keys_file: Path | None, public_url: str | None) -> Settings:
    """Return the settings of the page. Of the environment and the settings file only keys count."""
    from clipmod_cli.server.gate.keys import is_loopback
    from clipmod_cli.settings.definition import Settings
    from clipmod_cli.settings.reading import resolve

    if is_loopback(host):
        if api_keys_file or public_url:
            raise UsageError("--api-keys-file and --public-url have no effect without --host")
        return Settings(host=host, port=port)
    flags = {"host": host, "port": port, "no_auth": False, "public_url": public_url}
    if api_keys_file is not None:
        flags["api_keys_file"] = str(api_keys_file)
    return resolve({name: value for name, value in flags.items() if value is not None}).settings


def _check(decisions: Path, originals: Path | None, records: list[str]) -> None:
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.output.reading.files import check_once

    check_result_path(decisions, records, overwrite=True, option="--decisions")
    check_once(records)
    if originals is not None and not originals.is_dir():
        raise UsageError(f"--originals {originals} is no folder")


def _plan(order: str, audit: str, only: str, reviewer: str | None) -> ReviewPlan:
    from clipmod_cli.review.decisions import QueueOrder
    from clipmod_cli.review.queue.walk import ReviewPlan

    orders: tuple[QueueOrder, ...] = get_args(QueueOrder)
    chosen = next((one for one in orders if one == order), None)
    if chosen is None:
        raise UsageError(
            f"--order must be one of {', '.join(orders)}, not {order!r}{did_you_mean(order, orders)}"
        )
    who = (reviewer or _user()).strip()
    return ReviewPlan(order=chosen, only=_kinds(only), audit=read_share(audit, "--audit", ends=True), who=who)


def _near_method(
    near: str | None, evidence: Path | None, plan: ReviewPlan, records: list[str]
) -> DedupeMethod | None:
    from clipmod_cli.review.dedupe.method import parse_method

    if near is None:
        if evidence is not None:
            raise UsageError("--evidence has no effect without --near embedding")
        return None
    method = parse_method(near, "--near")
    if method.kind == "sha256":
        raise UsageError("--near must be pdq or embedding: files with the same bytes are one decision anyway")
    if (method.kind == "embedding") != (evidence is not None):
        raise UsageError(
            "--near embedding needs --evidence EV, a folder that `clipmod scan --evidence EV` wrote"
            if evidence is None
            else "--evidence has no effect with --near pdq"
        )
    if plan.order == "random":
        raise UsageError(
            "--near needs --order uncertain or severity: of a random order the probabilities hold for "
            "contents that are decided alone"
        )
    if "-" in records:
        raise UsageError("--near reads the records twice, and stdin can be read once: write them to a file")
    return method


def _stacks_of(
    records: list[str], method: DedupeMethod | None, evidence: Path | None, table: ContentTable
) -> NearStacks:
    """Return the near copies; takes long where files are read, so what may fail otherwise comes before."""
    from clipmod_cli.review.queue.stacks import NearStacks, find_stacks

    if method is None:
        return NearStacks()
    typer.echo("Comparing pictures for near copies ...", err=True)
    found = find_stacks(records, method, evidence)
    near = sum(len(stack) - 1 for stack in found.hashes)
    alone = f" {found.not_compared:,} contents could not be compared." if found.not_compared else ""
    typer.echo(f"{near:,} near copies of {len(found.hashes):,} contents.{alone}", err=True)
    return NearStacks.of(found.hashes, table.numbers)


def _kinds(only: str) -> tuple[ReviewKind, ...]:
    from clipmod_cli.review.queue.contents import KINDS

    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--only takes {', '.join(KINDS)}, not {name!r}{did_you_mean(name, KINDS)}")
    if not names:
        raise UsageError(f"--only names one or more of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user, as in some containers
        return "unknown"


def _review(
    records: list[str],
    decisions: Path,
    plan: ReviewPlan,
    stacks_of: Callable[[ContentTable], NearStacks],
    originals: Path | None,
    settings: Settings,
) -> int:
    from clipmod_cli.cli.commands.review.serving import ReviewServer, open_address
    from clipmod_cli.review.decisions import DecisionFile
    from clipmod_cli.review.queue.contents import open_contents
    from clipmod_cli.review.queue.pictures import ReviewPictures
    from clipmod_cli.review.queue.session import ReviewSession
    from clipmod_cli.server.review.app import create_review_app
    from clipmod_cli.server.review.context import ReviewContext

    with ExitStack() as open_:
        address = open_.enter_context(open_address(settings))
        file = open_.enter_context(DecisionFile(decisions))
        table = open_.enter_context(open_contents(records))
        say_notes(f"{one.name}: {one.note}" for one in table.files if one.note)
        pictures = open_.enter_context(ReviewPictures(table, originals=originals))
        session = ReviewSession(table, file, plan, stacks=stacks_of(table), is_missing=pictures.is_missing)
        counts = session.counts
        typer.echo(
            f"{len(table):,} contents were judged, {counts.left:,} are in the queue"
            f"{f', {counts.done:,} are decided already' if counts.done else ''}.",
            err=True,
        )
        server = ReviewServer()
        context = ReviewContext(session, pictures, _categories(records, table), server.finish)
        code = server.run(create_review_app(context, address.access), address)
        done = session.counts.done - counts.done
        typer.echo(
            f"{done:,} decisions written to {decisions}, {session.counts.left:,} left in the queue.", err=True
        )
    return code


def _categories(records: list[str], table: ContentTable) -> tuple[ReviewCategory, ...]:
    """Return the categories of the policies that judged, UNSAFE ones first."""
    from clipmod_cli.evaluate.joining import policies_of_cards
    from clipmod_cli.judge.policy.reading import BUILTIN, load_policy
    from clipmod_cli.server.review.context import ReviewCategory

    policies = list(policies_of_cards(name for name in records if name != "-"))
    name = table.record(0)["policy"] if len(table) and not policies else None
    if name in BUILTIN:
        policies.append(load_policy(name))
    found = {
        one.name: ReviewCategory(one.name, "unsafe" if one.safety == "UNSAFE" else "safe")
        for policy in policies
        for one in policy.categories
    }
    return tuple(sorted(found.values(), key=lambda one: one.label == "safe"))
