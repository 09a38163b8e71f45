"""Errors as OpenAI's clients read them: {"error": {message, type, param, code}} with a status of HTTP."""

from __future__ import annotations

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
    """A refusal or failure that a client is told. The message quotes nothing of what the client sent.

    Attributes:
        status: of HTTP.
        type: OpenAI's class of the error.
        param: the field at fault, None where no single one is.
        code: for programs, None where the type says all.
        retry_after: seconds after which a new try may succeed, None where none would.
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
        """Keep the parts of the answer."""
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @classmethod
    def of_backend(cls, error: BackendError, retry_after: int) -> ApiError:
        """Give what a client is told of a backend's failure."""
        status, kind, code = _STATUS[error.kind]
        param = {"unknown_model": "model", "too_long": "messages"}.get(error.kind)
        return cls(
            status,
            str(error),
            type=kind,
            param=param,
            code=code,
            retry_after=retry_after if status in _RETRYABLE else None,
        )

    @property
    def body(self) -> dict[str, object]:
        """The answer's JSON."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers beside those that every answer has."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
