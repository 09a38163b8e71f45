"""The locale of the help line for one request."""

from __future__ import annotations

import re

from starlette.requests import Request

from mica_ray.serving.http.settings import ServeSettings

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")


def locale_of(request: Request, requested: str | None, settings: ServeSettings) -> str:
    """Return the requested locale, else the browser's first language, else the operator's."""
    preferred = request.headers.get("accept-language", "").partition(",")[0].partition(";")[0].strip()
    for locale in (requested, preferred):
        if locale and _LANGUAGE.fullmatch(locale):
            return locale
    return settings.locale
