"""Views that take files; each keeps what it was given in `SEEN`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from clipmod_cli.integrations.django import clean_upload
from tests.integrations.photos.models import Photo

SEEN: list[bytes] = []


class PhotoForm(forms.ModelForm):  # type: ignore[misc]  # Django has no types
    class Meta:
        model = Photo
        fields = ("title", "file")


class AvatarForm(forms.Form):  # type: ignore[misc]
    avatar = forms.FileField(validators=[clean_upload])


def _answer(form: Any) -> HttpResponse:
    if form.is_valid():
        return JsonResponse({})
    return JsonResponse(form.errors.get_json_data(), status=400)


@csrf_exempt  # type: ignore[untyped-decorator]
def photo(request: HttpRequest) -> HttpResponse:
    form = PhotoForm(request.POST, request.FILES)
    answer = _answer(form)
    if form.is_valid():
        form.save()
    return answer


@csrf_exempt  # type: ignore[untyped-decorator]
def avatar(request: HttpRequest) -> HttpResponse:
    form = AvatarForm(request.POST, request.FILES)
    answer = _answer(form)
    if form.is_valid():
        SEEN.append(form.cleaned_data["avatar"].read())
    return answer


@csrf_exempt  # type: ignore[untyped-decorator]
def plain(request: HttpRequest) -> HttpResponse:
    """A view that checks nothing by itself."""
    SEEN.extend(file.read() for _, files in request.FILES.lists() for file in files)
    return HttpResponse(request.POST.get("title", ""))


async def slow(request: HttpRequest) -> HttpResponse:
    """An asynchronous view that checks nothing by itself."""
    SEEN.extend(file.read() for _, files in request.FILES.lists() for file in files)
    return HttpResponse("")


urlpatterns = [
    path("photo", photo),
    path("avatar", avatar),
    path("plain", plain),
    path("other/plain", plain),
    path("slow", csrf_exempt(slow)),
]
