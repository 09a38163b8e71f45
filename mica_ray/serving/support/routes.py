"""The routes /v1/support/sessions. Their logic is in support/sessions.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.backend import TextDelta
from mica_ray.serving.http.help_locale import locale_of
from mica_ray.serving.http.json_body import json_content
from mica_ray.serving.http.responses import DONE, event, event_response, json_response
from mica_ray.serving.support.body import read_message_body, read_session_body
from mica_ray.serving.support.session import SupportSession
from mica_ray.serving.support.sessions import SupportSessions

PATH = "/v1/support/sessions"


def session_routes(sessions: SupportSessions, access: AccessControl) -> list[Route]:
    """Return the routes."""

    def owner_of(request: Request) -> str:
        return access.admit(request.headers.get("authorization", ""), "support")

    def session_of(request: Request) -> SupportSession:
        return sessions.find(owner_of(request), request.path_params["session_id"])

    async def open_session(request: Request) -> Response:
        owner = owner_of(request)
        body = read_session_body(await json_content(request))
        session = sessions.open(owner, body, locale_of(request, body.locale, sessions.settings))
        return json_response(sessions.session_json(session), status=201)

    async def send_message(request: Request) -> Response:
        known = session_of(request)  # An unknown session is reported before the body is read.
        body = read_message_body(await json_content(request), sessions.settings)
        pieces = sessions.reply(known.owner, known.id, body)
        if body.stream:
            return await event_response(_events(sessions, pieces))
        async with aclosing(pieces):
            last = [piece async for piece in pieces][-1]
        assert isinstance(last, SupportSession)
        return json_response(_message_json(sessions, last))

    async def show_session(request: Request) -> Response:
        return json_response(sessions.session_json(session_of(request)))

    async def delete_session(request: Request) -> Response:
        session_id = session_of(request).id
        sessions.store.delete(session_id)
        return json_response({"id": session_id, "object": "support.session.deleted", "deleted": True})

    one = PATH + "/{session_id}"
    return [
        Route(PATH, open_session, methods=["POST"]),
        Route(one, show_session, methods=["GET"]),
        Route(one, delete_session, methods=["DELETE"]),
        Route(one + "/messages", send_message, methods=["POST"]),
    ]


async def _events(
    sessions: SupportSessions, reply: AsyncGenerator[TextDelta | SupportSession, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(reply) as pieces:
        async for piece in pieces:
            if isinstance(piece, SupportSession):
                yield event(_message_json(sessions, piece)) + DONE
            elif piece.text:
                mark = {"help_line": True} if piece.is_help_line else {}
                yield event({"object": "support.piece", "content": piece.text, **mark})


def _message_json(sessions: SupportSessions, session: SupportSession) -> dict[str, object]:
    turn = session.turns[-1]
    return {
        "object": "support.message",
        "session": session.id,
        "turn": len(session.turns),
        "reply": {"role": "assistant", "content": turn.reply},
        "help_line": turn.help_line or None,
        "care": turn.care,
        "need": sessions.need_json(session),
    }
