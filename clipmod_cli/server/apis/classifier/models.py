"""The operator's list of classifiers, each loaded at its first use and kept.

A model loads in a thread of its own. Concurrent requests for it wait for the same load, each until its own
deadline; other requests do not wait. A failed load is retried by the next request.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, HTTPException

from clipmod_cli.assemble import load
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import MissingPackageError, SettingsError, SpecError
from clipmod_cli.judge.choice import ModelChoice
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.backends import NUDENET
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.specs import AUTO, member_names, parse_models
from clipmod_cli.models.specs import WeightedSpec as Wanted
from clipmod_cli.server.apis.request_scan import seconds_to
from clipmod_cli.server.configuration import DocumentedEnvironment
from clipmod_cli.server.problems import problem
from clipmod_cli.server.state import from_state
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)

DOCUMENTED_DEFAULT = "Falconsai/nsfw_image_detection"

MOST_NAMED = 8
"""Models in one request: each scores every frame."""

MOST_SETS = 32
"""Cached combinations of models: requests with the same combination share forward passes."""


@dataclass(kw_only=True)
class Classifiers:
    """The models by the names that callers give them. Safe to use from any thread.

    Attributes:
        allowed: in the operator's order.
        default_name: for requests without a name; None if no model is allowed.
        default_score: the minimum score of the query endpoints.
    """

    allowed: dict[str, AllowedModel]
    default_name: str | None
    default_score: float
    hub: Hub
    settings: Settings
    _loading: dict[str, Future[Ensemble]] = field(default_factory=dict, repr=False)
    _sets: OrderedDict[tuple[str, ...], Ensemble] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def resolve(self, names: Sequence[str]) -> list[AllowedModel]:
        """Return the models of these names, each once; the default one for none.

        Raises:
            HTTPException: 400 for a name that is not on the operator's list.
        """
        requested = list(dict.fromkeys(names)) or ([self.default_name] if self.default_name else [])
        if not requested:
            raise problem(400, "No model may be named at this service")
        if len(requested) > MOST_NAMED:
            raise problem(400, f"At most {MOST_NAMED} models may be named in one request")
        found = [self.find(name) for name in requested]
        for name, one in zip(requested, found, strict=True):
            if one is None:
                known = ", ".join(self.allowed) or "none"
                raise problem(400, f"{name[:200]!r} is not a model of this service. It has: {known}")
        return [one for one in found if one is not None]

    def find(self, name: str) -> AllowedModel | None:
        """Return the model of this name, `hf:` before it or not; None if it is not on the list."""
        return self.allowed.get(name) or self.allowed.get(name.removeprefix("hf:"))

    def called(self, one: AllowedModel) -> str:
        """Return a model's name in evidence: unique among the allowed models."""
        distinct = {a.spec.spec: a.spec for a in self.allowed.values()}
        names = member_names(tuple(Wanted(spec=spec, weight=1.0) for spec in distinct.values()))
        return dict(zip(distinct, names, strict=True))[one.spec.spec]

    def load(self, models: Sequence[AllowedModel], until: float) -> Ensemble:
        """Return these models as one loaded ensemble. Blocks.

        Args:
            models: two names of one model count as one.
            until: the deadline by `time.monotonic()`.

        Raises:
            HTTPException: 503 if a model cannot be loaded, or not in time.
        """
        distinct = {one.spec.spec: one for one in models}
        alone = {spec: self._load_one(one, until) for spec, one in distinct.items()}
        if len(alone) == 1:
            return next(iter(alone.values()))
        key = tuple(sorted(alone))
        with self._lock:
            known = self._sets.get(key) or _join([alone[spec] for spec in key])
            self._sets[key] = known
            self._sets.move_to_end(key)
            if len(self._sets) > MOST_SETS:
                self._sets.popitem(last=False)
        return known

    def _load_one(self, one: AllowedModel, until: float) -> Ensemble:
        future = self._start_load(one)
        try:
            return future.result(timeout=seconds_to(until))
        except TimeoutError as e:
            if future.done():
                raise self._cannot(one, e) from e
            raise problem(503, f"The model {one.name} is still being brought. Try again soon") from e
        except Exception as e:
            raise self._cannot(one, e) from e

    def _start_load(self, one: AllowedModel) -> Future[Ensemble]:
        """Return the load of this model; start it if there is none."""
        with self._lock:
            known = self._loading.get(one.spec.spec)
            if known is not None:
                return known
            future: Future[Ensemble] = Future()
            self._loading[one.spec.spec] = future
        name = f"clipmod-load-{one.name}"
        threading.Thread(target=self._fill, args=(one, future), name=name, daemon=True).start()
        return future

    def _fill(self, one: AllowedModel, future: Future[Ensemble]) -> None:
        log.info("loading the classifier %s", one.name)
        try:
            loaded = self._read(one)
        except BaseException as e:  # noqa: BLE001 — raised by the waiting requests
            log.warning("the classifier %s cannot be loaded: %s", one.name, e)
            with self._lock:
                del self._loading[one.spec.spec]
            future.set_exception(e)
        else:
            future.set_result(loaded)

    def _read(self, one: AllowedModel) -> Ensemble:
        choice = ModelChoice(
            members=(Wanted(spec=one.spec, weight=1.0),),
            called=(self.called(one),),
        )
        return load(choice, settings=self.settings, hub=self.hub)

    def _cannot(self, one: AllowedModel, error: Exception) -> HTTPException:
        """Return the refusal, with the command that helps; paths are only logged."""
        if isinstance(error, MissingPackageError):
            extra = one.spec.backend.extra
            return problem(503, f"The model {one.name} needs the extra {extra}, which is not installed here")
        if one.spec.repo and not self._is_here(one):
            return problem(
                503,
                f"The model {one.name} is not on the service's machine and cannot be downloaded now. This "
                f"brings it: clipmod models download {one.spec.spec}",
            )
        return problem(503, f"The model {one.name} cannot be loaded; the service's log says why")

    def _is_here(self, one: AllowedModel) -> bool:
        from clipmod_cli.errors import MissingModelError
        from clipmod_cli.models.hub import weights

        try:
            return weights.locate(one.spec, hub=self.hub) is not None
        except MissingModelError:
            return True  # a damaged lock file, which a download does not repair


Classifying = Annotated[Classifiers, Depends(from_state("classifiers"))]


def classifiers_of(
    settings: Settings, environment: DocumentedEnvironment, hub: Hub | None = None
) -> Classifiers:
    """Return the models that the operator allows. Loads none.

    Args:
        settings: the list, and how models run.
        environment: the documented variables; their default model is allowed too.
        hub: default the one of the environment.

    Raises:
        SettingsError: if an entry is invalid.
    """
    allowed = read_allowed(settings.classifier)
    named = environment.default_model
    if named and named not in allowed:
        try:
            allowed |= read_allowed([named])
        except SettingsError as e:
            raise SettingsError(f"DEFAULT_MODEL_NAME: {e}") from e
    default = named or (DOCUMENTED_DEFAULT if DOCUMENTED_DEFAULT in allowed else next(iter(allowed), None))
    source = hub or Hub.from_environment(offline=settings.offline)
    return Classifiers(
        allowed=allowed,
        default_name=default,
        default_score=environment.default_score,
        hub=replace(source, token=environment.hub_token) if environment.hub_token else source,
        settings=settings,
    )


def _join(alone: Sequence[Ensemble]) -> Ensemble:
    members = [Member(one.members[0].model, 1 / len(alone)) for one in alone]
    return Ensemble(members=members, dtype=alone[0].dtype, batch_size=min(one.batch_size for one in alone))


_FOLDER = ("/", "./", "../", "~")
_ALIAS = re.compile(r"[A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?")
"""An alias may look like a repository, so that a folder here can stand in for one on the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedModel:
    """A model, and the name that callers give it."""

    name: str
    spec: ModelSpec


def read_allowed(texts: Iterable[str]) -> dict[str, AllowedModel]:
    """Return the models of the operator's list by name, in its order. Loads nothing.

    Each is OWNER/NAME on the Hugging Face hub, a folder (/PATH, ./PATH, ~), nudenet, or ALIAS=one of these.

    Raises:
        SettingsError: if an entry is invalid, or a name stands for two models.
    """
    found: dict[str, AllowedModel] = {}
    for text in texts:
        one = _read(text.strip())
        if found.setdefault(one.name, one).spec != one.spec:
            raise SettingsError(f"--classifier: the name {one.name} stands for two models")
    return found


def _read(text: str) -> AllowedModel:
    alias, equals, model = text.partition("=")
    if not equals or text.startswith(_FOLDER):
        spec = _spec(text, text)
        return AllowedModel(name=spec.short_name, spec=spec)
    if not _ALIAS.fullmatch(alias):
        raise SettingsError(f"--classifier {text!r}: {alias!r} is no name (letters, digits and _.-)")
    return AllowedModel(name=alias, spec=_spec(model.strip(), text))


def _spec(model: str, text: str) -> ModelSpec:
    try:
        # with a weight at its end, a path may contain `=` (clipmod_cli.models.specs)
        members = parse_models([f"{model if model == NUDENET else 'hf:' + model.removeprefix('hf:')}=1"])
    except SpecError as e:
        raise _invalid(text, str(e)) from e
    if members == AUTO or len(members) != 1:
        raise _invalid(text, "it names several models")
    return members[0].spec


def _invalid(text: str, reason: str) -> SettingsError:
    return SettingsError(
        f"--classifier {text!r} is none of OWNER/NAME, a folder, nudenet, or ALIAS=one of these: {reason}"
    )
