"""Judges uploads by a running `clipmod serve`: many web workers, one set of loaded models."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from time import monotonic
from typing import Any, Final, Literal, cast

import httpx2

from clipmod_cli.errors import SettingsError
from clipmod_cli.integrations.per_process import PerProcess
from clipmod_cli.integrations.uploads import NamedUpload, UploadFinding, finding_of

MAX_DETAIL_CHARS: Final = 300
"""Of the service's error in the log."""


class RemoteJudge:
    """A service. Anything but an answer that all was looked at and is Safe is a refusal."""

    def __init__(
        self, url: str, key: str | None, policy: str | None, review: Literal["pass", "refuse"]
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: the service's, as `http://moderation:8000`.
            key: one of its API keys.
            policy: by which it must judge; None for any.
            review: as `finding_of`.

        Raises:
            SettingsError: the URL is none.
        """
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"the URL of the service must begin with http:// or https://, not {url!r}")
        self._url = url.rstrip("/")
        self._headers = {} if key is None else {"X-API-Key": key}
        self._policy = policy
        self._review = review
        self._client = PerProcess(self._open)

    def warm(self) -> None:
        """Ask the service whether it is ready.

        Raises:
            SettingsError: it is not, or cannot be reached.
        """
        try:
            self._client.get().get("/readyz", timeout=10).raise_for_status()
        except httpx2.HTTPError as e:
            raise SettingsError(f"the service at {self._url} is not ready: {e}") from e

    def judge(self, uploads: Sequence[NamedUpload], until: float) -> Generator[UploadFinding]:
        """Yield what was found, in order; fewer at the deadline `until`, a `time.monotonic()`."""
        for upload in uploads:
            left = until - monotonic()
            if left <= 0:
                return
            yield self._ask(upload, left)

    def close(self) -> None:
        """Close the connections."""
        if (client := self._client.take()) is not None:
            client.close()

    def _open(self) -> httpx2.Client:
        # trust_env: uploads go to the service, and to no proxy that a variable happens to name
        return httpx2.Client(base_url=self._url, headers=self._headers, trust_env=False)

    def _ask(self, upload: NamedUpload, seconds: float) -> UploadFinding:
        upload.file.seek(0)
        files = {"file": (upload.name or "upload", cast("Any", upload.file), "application/octet-stream")}
        try:
            answer = self._client.get().post("/predict/single", files=files, timeout=seconds)
        except httpx2.TimeoutException:
            return UploadFinding(
                "unavailable", f"the service at {self._url} did not answer in {seconds:.0f} s"
            )
        except httpx2.HTTPError as e:
            return UploadFinding("unavailable", f"the service at {self._url} cannot be asked: {e}")
        return self._finding_of(answer)

    def _finding_of(self, answer: httpx2.Response) -> UploadFinding:
        if answer.status_code != 200:
            told = f"the service answered {answer.status_code}: {answer.text[:MAX_DETAIL_CHARS]}"
            match answer.status_code:
                case 400:
                    return UploadFinding("unreadable", told)
                case 413:
                    return UploadFinding("too_large", told)
            return UploadFinding("unavailable", told)
        try:
            record = json.loads(answer.content)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            return UploadFinding("unavailable", "the service's answer is not what /predict/single answers")
        if self._policy is not None and record.get("policy") != self._policy:
            judged_by = record.get("policy")
            return UploadFinding(
                "unavailable", f"the service judges by the policy {judged_by}, not {self._policy}"
            )
        return finding_of(record, self._review)
