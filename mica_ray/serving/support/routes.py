"""The routes /v1/support/sessions. What they do is support_sessions.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.help_locale import locale_of
from mica_ray.serving.http.json_body import json_content
from mica_ray.serving.http.responses import DONE, event, event_response, json_response
from mica_ray.serving.support.body import MessageBody, read_message_body, read_session_body
from mica_ray.serving.support.session import SupportSession
from mica_ray.serving.support.sessions import SupportSessions

PATH = "/v1/support/sessions"


def session_routes(sessions: SupportSessions, access: AccessControl) -> list[Route]:
    """Give the routes."""
    settings = sessions.settings

    def owner(request: Request) -> str:
        return access.admit(request.headers.get("authorization", ""))

    def named(request: Request) -> SupportSession:
        return sessions.find(owner(request), request.path_params["session_id"])

    async def begin(request: Request) -> Response:
        name = owner(request)
        body = read_session_body(await json_content(request))
        session = sessions.open(name, body, locale_of(request, body.locale, settings))
        return json_response(sessions.described(session), status=201)

    async def say(request: Request) -> Response:
        session = named(request)
        body = read_message_body(await json_content(request), settings)
        if body.stream:
            return await event_response(_events(sessions, session, body))
        async with aclosing(sessions.pieces(session, body)) as pieces:
            last = [piece async for piece in pieces][-1]
        assert isinstance(last, SupportSession)
        return json_response(_told(sessions, last))

    async def show(request: Request) -> Response:
        return json_response(sessions.described(named(request)))

    async def forget(request: Request) -> Response:
        session_id = named(request).id
        sessions.store.delete(session_id)
        return json_response({"id": session_id, "object": "support.session.deleted", "deleted": True})

    one = PATH + "/{session_id}"
    return [
        Route(PATH, begin, methods=["POST"]),
        Route(one, show, methods=["GET"]),
        Route(one, forget, methods=["DELETE"]),
        Route(one + "/messages", say, methods=["POST"]),
    ]


async def _events(
    sessions: SupportSessions, session: SupportSession, body: MessageBody
) -> AsyncGenerator[bytes, None]:
    async with aclosing(sessions.pieces(session, body)) as pieces:
        async for piece in pieces:
            if isinstance(piece, SupportSession):
                yield event(_told(sessions, piece)) + DONE
            elif piece.text:
                said_by = {"help_line": True} if piece.is_help_line else {}
                yield event({"object": "support.piece", "content": piece.text, **said_by})


def _told(sessions: SupportSessions, session: SupportSession) -> dict[str, object]:
    turn = session.turns[-1]
    return {
        "object": "support.message",
        "session": session.id,
        "turn": len(session.turns),
        "reply": {"role": "assistant", "content": turn.reply},
        "care": turn.care,
        "need": sessions.need(session),
    }
