"""A model with a guarded file."""

from __future__ import annotations

from django.db import models

from clipmod_cli.integrations.django import clean_upload


class Photo(models.Model):  # type: ignore[misc]  # Django has no types
    title = models.CharField(max_length=20, default="", blank=True)
    file = models.FileField(validators=[clean_upload], blank=True)

    class Meta:
        app_label = "photos"
