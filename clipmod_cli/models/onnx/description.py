"""What an ONNX image classifier is: its file, labels, and how pictures are prepared for it. Read from TOML.

Of a package only the weights are read, and only if their sha256 is the described one; its code never runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clipmod_cli.errors import MissingModelError, MissingPackageError, SpecError
from clipmod_cli.install import package_command
from clipmod_cli.types import Geometry

JPEG_OVERSAMPLING = 6
"""Of a classifier whose pictures go through JPEG: its rounding makes a change of one grey level large.
open_nsfw's scores of real photographs move by up to 0.005 with 2, by up to 0.002 with 6."""

Side = Annotated[int, Field(ge=1, le=4096)]
Sides = Annotated[tuple[Side, Side], Field(strict=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = Annotated[tuple[Finite, Finite, Finite], Field(strict=False)]
Label = Annotated[str, Field(pattern=r"\S")]


class Description(BaseModel):
    """One classifier. A picture is scaled and cut, goes through JPEG, then is `(pixels - mean) * scale`.

    Attributes:
        about: a line for `clipmod models list`.
        licence: of the weights.
        source: where they come from, an address.
        package: the installed package with the file.
        repo: `OWNER/NAME` on the Hugging Face hub, with the file. Without package and repository it lies
            beside the description.
        commit: of the repository, for the first download.
        file: name of the ONNX file in package, repository or folder.
        file_bytes: its size.
        sha256: of that file, in hex.
        labels: in the order of the graph's outputs.
        softmax: the graph ends in a softmax; otherwise its outputs are logits, and one is applied.
        fit: how the whole picture is scaled to `size`: as `Geometry.fit`.
        size: (height, width) in pixels.
        crop: (height, width) cut from the middle afterwards.
        resample: the interpolation.
        jpeg: pictures are written as JPEG at Pillow's default quality, and read again.
        channels: the order of the colours.
        layout: the order of the graph's input: N pictures, H height, W width, C colours.
        mean: subtracted from each colour, in the order of `channels`, in grey levels 0..255.
        scale: the factor afterwards, likewise.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    about: str = "classifier"
    licence: str
    source: str
    package: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")] | None = None
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    file: Annotated[str, Field(pattern=r"^[^./\\\x00][^/\\\x00]*(/[^./\\\x00][^/\\\x00]*)*$")]
    file_bytes: Annotated[int, Field(ge=1)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    labels: Annotated[tuple[Label, ...], Field(strict=False, min_length=2)]
    softmax: bool
    fit: Literal["shortest", "squash"]
    size: Sides
    crop: Sides | None = None
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    jpeg: bool = False
    channels: Literal["RGB", "BGR"]
    layout: Literal["NHWC", "NCHW"]
    mean: Triple
    scale: Triple

    @model_validator(mode="after")
    def _check(self) -> Description:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is listed twice")
        if self.fit == "shortest" and self.crop is None:
            raise ValueError('"shortest" needs a "crop": else inputs would have different sizes')
        if self.package is not None and self.repo is not None:
            raise ValueError("a file comes from a package or from a repository, not from both")
        return self

    @property
    def geometry(self) -> Geometry:
        """How decoding scales and cuts pictures for it."""
        usual = Geometry(fit=self.fit, size=self.size, crop=self.crop, resample=self.resample)
        return replace(usual, oversampling=JPEG_OVERSAMPLING) if self.jpeg else usual

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the graph takes, in pixels."""
        return self.crop or self.size

    @property
    def revision(self) -> str:
        """Identifies weights and preparation: a sha256 in hex."""
        where = {"about", "licence", "source", "package", "repo", "commit", "file", "file_bytes"}
        said = self.model_dump(mode="json", exclude=where)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def locate(self, folder: Path) -> Path:
        """Return the ONNX file of a model that is not on the hub; without a package it lies in `folder`.

        Raises:
            MissingPackageError: its package is not installed.
            MissingModelError: there is no such file.
        """
        if self.package is not None:
            folder = self._package_folder(self.package)
        path = folder / self.file
        if not path.is_file():
            raise MissingModelError(f"there is no file {path}")
        return path

    def _package_folder(self, package: str) -> Path:
        found = importlib.util.find_spec(package)  # of a top-level package this imports nothing
        if found is None or not found.submodule_search_locations:
            how = package_command(package.replace("_", "-"))
            raise MissingPackageError(f"the package {package} is not installed: {how}")
        return Path(next(iter(found.submodule_search_locations)))

    def read_weights(self, path: Path) -> bytes:
        """Return the contents of the ONNX file: these, not the file, are what was checked.

        Raises:
            MissingModelError: it cannot be read, or is not the described one.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MissingModelError(f"{path} cannot be read: {error.strerror}") from error
        if (actual := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise MissingModelError(
                f"{path} is not the described file: its sha256 is {actual}, not {self.sha256}. Get it again"
            )
        return content


def built_in(name: str) -> Description:
    """Return a description that ships with clipmod."""
    text = (files("clipmod_cli.models.onnx") / f"{name}.toml").read_text(encoding="utf-8")
    return parse(text, f"{name}.toml")


def read(path: Path) -> Description:
    """Return the description in a file.

    Raises:
        SpecError: it cannot be read, or is no description.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecError(f"the description {path} cannot be read: {why}") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Description:
    """Return the description in a TOML text; `where` names it in messages.

    Raises:
        SpecError: it is none; with a line for each fault.
    """
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{where}: not valid TOML: {error}") from error
    try:
        return Description.model_validate(table)
    except ValidationError as error:
        faults = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors(include_url=False)]
        said = [f"{where}: {place + ': ' if place else ''}{message}" for place, message in faults]
        raise SpecError("\n".join(said)) from error
