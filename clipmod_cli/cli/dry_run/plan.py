"""What a run would do: its models and their stored figures, what is done already, and its estimated time."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from clipmod_cli.assemble import decoding_options, policy_of
from clipmod_cli.bench.estimate import CONFIDENCE, Costs, RunEstimate, at_least, estimate
from clipmod_cli.bench.figures import KEY, Figures, NoFigures, find
from clipmod_cli.bench.sampling import InputSample, measure
from clipmod_cli.cli.choosing import choose_models
from clipmod_cli.cli.output import output_path
from clipmod_cli.cli.run import Inputs
from clipmod_cli.cli.usage.effects import check_policy, check_values
from clipmod_cli.ensemble.cache_file import default_path
from clipmod_cli.errors import MissingError, OutputMismatchError
from clipmod_cli.judge.choice import ModelChoice, choose_screens
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.output.jsonl import is_regular
from clipmod_cli.output.resuming.card import RunCard
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions, find_done
from clipmod_cli.output.table_sink import lines_of
from clipmod_cli.pipeline import Options, decoding_for, start_decoders
from clipmod_cli.runs.facts import decoding_of, difference, screens_again
from clipmod_cli.settings.definition import Settings, flag_of
from clipmod_cli.settings.effects import names_parts
from clipmod_cli.settings.reading import Resolved

NOT_SAMPLED: Final = "no input could be decoded while the sample was taken"
EARLY_EXIT: Final = "early exit: the lower limit is if the first model decided about every view"
CACHED: Final = "views that the evidence cache holds need no model; they are counted as if they did"
BANKS: Final = "inputs that banks hold are not decoded; they are counted as if they were"
UNTIL_HIT: Final = "--stop-on-hit ends an input at its first hit; it is counted to its end"
PARTS: Final = "parts that are done already are counted as if they were not"
CUT: Final = "films of the sample were not decoded to their end, so there is no upper limit"
URLS: Final = (
    "one view a URL; downloads, decoding and further views are not counted: a dry run downloads nothing"
)


@dataclass(kw_only=True)
class RunPlan:
    """A run, before it begins.

    Attributes:
        done: the inputs that have a record in the output, and would not be judged again.
        figures: of the models; None if there are none, see `reason`.
        costs: of a view, by these figures.
        reason: why there is no estimate, and what to do; empty if there may be one.
        stored: inputs that are objects in stores.
        start_s: what this process took to start, in seconds.
        estimate: how long the run takes.
        notes: what the estimate leaves out.
    """

    settings: Settings
    options: Options
    start_s: float
    done: DoneInputs
    figures: Figures | None = None
    costs: Costs | None = None
    reason: str = ""
    stored: int = 0
    estimate: RunEstimate | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, resolved: Resolved, inputs: Inputs, *, start_s: float) -> Self:
        """Return the plan of a run; loads no model.

        Args:
            resolved: the settings.
            inputs: of the run.
            start_s: seconds that this process took to start.

        Raises:
            SettingsError: a value is invalid.
            PolicyError: the policy cannot be read.
            OutputMismatchError: the output belongs to another run.
            OutputError: the output cannot be read.
        """
        settings = resolved.settings
        check_values(settings)
        policy = policy_of(resolved)
        check_policy(resolved, policy)
        card, done = _read_output(settings, inputs)
        options = decoding_options(settings)
        options = replace(options, decode=decoding_for(policy, options.decode))
        plan = cls(settings=settings, options=options, start_s=start_s, done=done)
        try:
            choice, hub = choose_models(settings, policy, card)
        except MissingError as e:
            plan.reason = str(e)
            return plan
        _check_output(settings, card, choice, policy)
        screens = _screens(settings, card, choice, policy, hub)
        plan._find_figures(choice, screens)
        return plan

    def _find_figures(self, choice: ModelChoice, screens: ModelChoice | None) -> None:
        """Find the figures of the models, or say how to get them."""
        settings = self.settings
        found: list[Figures] = []
        for one in (choice,) if screens is None else (choice, screens):
            models = [member.spec.spec for member in one.members]
            figures = find(models, settings)
            if isinstance(figures, NoFigures):
                self.reason = f"{figures.reason}. To measure: {_bench_command(models, settings)}"
                return
            found.append(figures)
        first = None
        if settings.early_exit != "off":
            first = (screens or choice).members[0].spec.spec
            self.notes.append(EARLY_EXIT)
        self.figures = found[0]
        costs = Costs.of(found[0], screens=found[1] if found[1:] else None, first=first)
        self.costs = replace(costs, start_s=costs.start_s + self.start_s)

    def estimate_from(self, sample: InputSample) -> None:
        """Decode the sample and estimate the time of the run, if there are figures."""
        if self.figures is None or self.costs is None:
            return
        strata = sample.choose()
        if self.stored:
            self.notes.append(f"{self.stored:,} objects in stores are not counted, since none is downloaded")
            if not strata:
                self.reason = self.notes.pop()
                return
        with start_decoders(self.options) as decoders:
            measured = measure(strata, decoders, self.figures.geometries, self.options.decode)
        if strata and not measured.count:
            self.reason = NOT_SAMPLED
            return
        self.estimate = estimate(measured, self.costs, self.options.workers)
        self.notes += [CUT] if self.estimate.high_s is None else []
        self._note_shortcuts()

    def bound_from(self, views: int) -> None:
        """RunEstimate how long the models take at least, for so many views."""
        if self.costs is not None:
            self.estimate = at_least(views, self.costs)
            self.notes.append(URLS)
            self._note_shortcuts()

    def _note_shortcuts(self) -> None:
        settings = self.settings
        if not settings.no_cache and default_path().exists():
            self.notes.append(CACHED)
        if names_parts(settings):
            self.notes.append(PARTS)
        if settings.bank:
            self.notes.append(BANKS)
        if settings.stop_on_hit:
            self.notes.append(UNTIL_HIT)

    def facts(self, *, inputs: int, done: int) -> dict[str, Any]:
        """Return the plan as JSON.

        Args:
            inputs: that are not invalid.
            done: of these, those that have a record in the output.
        """
        facts = {
            "done": done,
            "to_judge": inputs - done,
            "estimate": None,
            "no_estimate": self.reason or None,
        }
        if self.estimate is None or self.figures is None:
            return facts
        one, report = self.estimate, self.figures.report
        estimated = {
            "seconds": one.seconds,
            "low_seconds": one.low_s,
            "high_seconds": one.high_s,
            "confidence": CONFIDENCE,
            "bound": one.bound,
            "models_seconds": one.models_s,
            "decoding_seconds": one.decoding_s,
            "start_seconds": one.start_s,
            "views": one.views,
            "sampled": one.sampled,
            "models": report.setup.models,
            "device": report.setup.device,
            "dtype": report.setup.dtype,
            "workers": self.options.workers,
            "measured_at": self.figures.measured_at.isoformat(timespec="seconds"),
            "notes": self.notes,
        }
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in estimated.items()}
        return facts | {"estimate": rounded}


def _read_output(settings: Settings, inputs: Inputs) -> tuple[RunCard | None, DoneInputs]:
    """Return the card of the output and the inputs that have a record in it."""
    path = None if names_parts(settings) else output_path(settings)
    if path is None or settings.overwrite or not is_regular(path):
        return None, DoneInputs()
    card = RunCard.read(path)
    options = ResumeOptions(
        resume=settings.resume,
        conditions=inputs.conditions,
        earlier=card.conditions,
        sources=inputs.sources,
        retry=frozenset(settings.retry),
    )
    with lines_of(path) as lines:
        return card, find_done(lines, options)


def _check_output(settings: Settings, card: RunCard | None, choice: ModelChoice, policy: Policy) -> None:
    """Refuse an output that the run would refuse, as far as that is known without its models."""
    if card is None or not card.facts:
        return
    before = card.facts
    revisions = {one["spec"]: one["revision"] for one in before["models"]["members"]}
    members = [
        {"spec": m.spec.spec, "name": name, "weight": m.weight, "revision": revisions.get(m.spec.spec, "")}
        for m, name in zip(choice.members, choice.names, strict=True)
    ]
    now = before | {
        "models": before["models"] | {"members": members},
        "decoding": decoding_of(screens_again(settings, card)),
        "policy": before["policy"]
        | {
            "name": policy.name,
            "hash": policy.hash,
            "threshold": policy.threshold_for(settings.sensitivity, settings.threshold),
        },
    }
    if told := difference(before, now):
        raise OutputMismatchError(
            f"{settings.output} was written with other models, policy or settings ({told}). "
            "Name another output, or --overwrite, or use the same settings to go on"
        )


def _screens(
    settings: Settings, card: RunCard | None, choice: ModelChoice, policy: Policy, hub: Hub
) -> ModelChoice | None:
    """Return the models that calibrated early exit asks before the others; None if there are none."""
    if settings.early_exit != "calibrated":
        return None
    specs = [member.spec.spec for member in choice.members]
    return choose_screens(screens_again(settings, card).screen, specs, policy, hub)


def _bench_command(models: list[str], settings: Settings) -> str:
    """Return the command that measures these models with these settings."""
    words = ["clipmod", "bench", "--models", ",".join(models)]
    for name in KEY:
        value, default = getattr(settings, name), getattr(Settings(), name)
        if value != default:
            words += [flag_of(name)] if value is True else [flag_of(name), str(value)]
    return shlex.join(words)
