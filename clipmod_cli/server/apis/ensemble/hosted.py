"""What answers say of hosted pictures and of prediction files beside the documented fields."""

from __future__ import annotations

from pydantic import BaseModel, Field

from clipmod_cli.server.hosting.pictures import NotHosted
from clipmod_cli.settings.definition import Settings


class HostingFields(BaseModel):
    """Of any picture: why there is no link to it."""

    image_not_hosted: NotHosted | None = Field(
        default=None,
        description="null where it is hosted. `off`: this service hosts none; `denied`: by a bank of hashes; "
        "`metadata`: its metadata cannot be removed; `quota`: no room for it; `storage`: the disk fails",
    )


class KeptFilesInfo(BaseModel):
    """How many hosted pictures and prediction files are kept; the oldest go first."""

    hosting_mb: int
    hosting_files: int
    keep_metadata: bool = Field(description="Pictures are hosted as they were sent")
    enable_predictions: bool
    predictions_mb: int
    predictions_files: int


def kept_files_info(settings: Settings, *, predictions: bool) -> KeptFilesInfo:
    """Return the limits of the settings; `predictions` says whether prediction files are written."""
    return KeptFilesInfo(
        hosting_mb=settings.hosting_mb,
        hosting_files=settings.hosting_files,
        keep_metadata=settings.keep_metadata,
        enable_predictions=predictions,
        predictions_mb=settings.predictions_mb,
        predictions_files=settings.predictions_files,
    )
