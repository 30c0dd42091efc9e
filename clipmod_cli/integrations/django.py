"""Guarded uploads for Django: a validator for file fields, and a middleware for all forms.

    photo = models.ImageField(validators=[clean_upload])

    MIDDLEWARE = [..., "clipmod_cli.integrations.django.UploadGuardMiddleware"]

Settings: `CLIPMOD = {"POLICY": "nsfw"}`, with the arguments of `UploadGuard` in capitals, and two of its own:
`PATHS`, how the paths begin that the middleware guards, and `MESSAGES`, what senders are told by outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deconstruct import deconstructible
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy

from clipmod_cli.errors import SettingsError
from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.integrations.per_process import PerProcess
from clipmod_cli.integrations.uploads import (
    RETRY_AFTER_S,
    STATUS,
    NamedUpload,
    Outcome,
    UploadCheck,
    checked_messages,
)

__all__ = ["CleanUpload", "UploadGuardMiddleware", "clean_upload", "guard"]

_OF_DJANGO: Final = frozenset({"PATHS", "MESSAGES"})
"""Keys of `CLIPMOD` that are no arguments of the guard."""


def _ours() -> Mapping[str, Any]:
    ours: Mapping[str, Any] = getattr(settings, "CLIPMOD", {})
    return ours


def _open() -> UploadGuard:
    given = {name.lower(): value for name, value in _ours().items() if name not in _OF_DJANGO}
    if isinstance(given.get("on_check"), str):
        given["on_check"] = import_string(given["on_check"])
    try:
        _messages()
        return UploadGuard(**given)
    except SettingsError as e:
        raise ImproperlyConfigured(f"CLIPMOD: {e}") from e


_guard = PerProcess(_open)


def guard() -> UploadGuard:
    """Return the guard of the settings, for views that check by themselves, and to `warm` it.

    Raises:
        ImproperlyConfigured: `CLIPMOD` holds what is no setting, or a wrong value.
    """
    return _guard.get()


def _forget(*, setting: str, **_: Any) -> None:
    """Close the guard when a test changes its settings."""
    if setting == "CLIPMOD" and (old := _guard.take()) is not None:
        old.close()


setting_changed.connect(_forget)


def _messages() -> Mapping[Outcome, Any]:
    """Return what senders are told by outcome, with the words of the project."""
    ours: Mapping[Outcome, Any] = _ours().get("MESSAGES", {})
    return checked_messages(ours)


def _message(check: UploadCheck) -> Any:
    """Return what the sender is told, translated where the project translates it."""
    told = _messages()[check.outcome]
    return gettext_lazy(told) if isinstance(told, str) else told


@deconstructible(path="clipmod_cli.integrations.django.CleanUpload")
class CleanUpload:
    """A validator for the file fields of models, forms and serializers: the upload must be clean.

    A file that is in the storage already is no upload, and is not judged again when its model is saved.
    """

    def __call__(self, value: Any) -> None:
        """Return if the upload is clean.

        Raises:
            ValidationError: otherwise; its code is `flagged`, `unreadable`, `too_large` or `unavailable`.
        """
        if value is None or getattr(value, "_committed", False):  # so is the field of a model without a file
            return
        check = guard().check(value, value.name or "")
        if not check.is_clean:
            raise ValidationError(_message(check), code=check.outcome)

    def __eq__(self, other: object) -> bool:
        """All are equal, so that `makemigrations` finds no change."""
        return isinstance(other, CleanUpload)

    def __hash__(self) -> int:
        return hash(CleanUpload)


clean_upload = CleanUpload()


class UploadGuardMiddleware:
    """Judges every file of a form (multipart/form-data, any method) before the view runs.

    It reads the whole form: a view can no longer set upload handlers, nor read `request.body`. Of other
    methods than POST, where Django leaves forms alone, the fields are in `request.POST` and `request.FILES`
    too. Place it last, so that what authentication or CSRF protection refuse is not judged.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        """Run synchronously or asynchronously, as what comes after it."""
        self.get_response = get_response
        self.process_view: Any = self._refusal_of
        guard()  # a wrong setting is told at the start
        if isinstance(_ours().get("PATHS", ()), str):
            raise ImproperlyConfigured("CLIPMOD: PATHS must be a list of texts")
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
            self.process_view = sync_to_async(self._refusal_of, thread_sensitive=False)

    def __call__(self, request: HttpRequest) -> Any:
        """Pass on; `process_view` refuses."""
        return self.get_response(request)

    def _refusal_of(self, request: HttpRequest, *_view: Any) -> HttpResponse | None:
        """Return the answer to a request with an upload that is not clean; None to let the view run."""
        if request.content_type != "multipart/form-data" or not self._is_guarded(request.path_info):
            return None
        uploads = [NamedUpload(one, one.name or "") for one in _files_of(request)]
        checks = guard().check_all(uploads) if uploads else []
        return next((_answer(request, check) for check in checks if not check.is_clean), None)

    def _is_guarded(self, path: str) -> bool:
        paths: Sequence[str] = _ours().get("PATHS", ("/",))
        return path.startswith(tuple(paths))


def _files_of(request: HttpRequest) -> list[Any]:
    """Return all files of the form. Django itself reads forms of POST alone."""
    method, request.method = request.method, "POST"
    if method != "POST" and not request._read_started:  # noqa: SLF001
        # An earlier middleware that looked found an empty form, which Django keeps.
        for name in ("_post", "_files"):
            request.__dict__.pop(name, None)
    try:
        return [file for _, files in request.FILES.lists() for file in files]
    finally:
        request.method = method


def _answer(request: HttpRequest, check: UploadCheck) -> HttpResponse:
    status, message = STATUS[check.outcome], str(_message(check))
    if request.accepts("application/json") and not request.accepts("text/html"):
        answer = JsonResponse({"detail": message}, status=status)
    else:
        answer = HttpResponse(message, status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        answer["Retry-After"] = str(RETRY_AFTER_S)
    return answer
