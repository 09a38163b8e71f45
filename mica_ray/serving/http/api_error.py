"""Errors in OpenAI's format: {"error": {message, type, param, code}} with an HTTP status."""

from __future__ import annotations

from collections.abc import Mapping

from mica_ray.serving.http.backend import BackendError, FailureKind

_STATUS: dict[FailureKind, tuple[int, str, str | None]] = {
    "refused": (400, "invalid_request_error", None),
    "too_long": (400, "invalid_request_error", "context_length_exceeded"),
    "unknown_model": (404, "invalid_request_error", "model_not_found"),
    "busy": (429, "rate_limit_error", "overloaded"),
    "unavailable": (503, "server_error", "unavailable"),
    "timeout": (504, "server_error", "timeout"),
}
_RETRYABLE = (429, 503)


class ApiError(Exception):
    """An error response. Its message must not quote what the client sent.

    Attributes:
        status: the HTTP status.
        type: OpenAI's error type.
        param: the request field at fault; None if no single field is.
        code: for programs; None if the type is specific enough.
        retry_after: seconds, sent as Retry-After; None sends no such header.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Create the error from the parts of the response."""
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @classmethod
    def of_backend(cls, error: BackendError, retry_after: int) -> ApiError:
        """Convert the failure of a backend."""
        status, kind, code = _STATUS[error.kind]
        param = error.param or {"unknown_model": "model", "too_long": "messages"}.get(error.kind)
        return cls(
            status,
            str(error),
            type=kind,
            param=param,
            code=code,
            retry_after=retry_after if status in _RETRYABLE else None,
        )

    def renamed(self, names: Mapping[str, str]) -> ApiError:
        """Return the error with the field at fault as another body names it."""
        return ApiError(
            self.status,
            str(self),
            type=self.type,
            param=self.param if self.param is None else names.get(self.param, self.param),
            code=self.code,
            retry_after=self.retry_after,
        )

    @property
    def reason(self) -> str:
        """What metrics and audit lines name: the code, or the type of an error without one."""
        return self.code or self.type

    @property
    def body(self) -> dict[str, object]:
        """The JSON body of the response."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of this response, in addition to those of http/security.py."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
