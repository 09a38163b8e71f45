"""The routes /v1/support/sessions. What they do is support_sessions.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from mica_ray.serving.callers import Callers
from mica_ray.serving.chat_routes import event_response, json_content, json_response, locale_of
from mica_ray.serving.completion import DONE, event
from mica_ray.serving.session_body import SaidBody, read_opening, read_said
from mica_ray.serving.support_session import SupportSession
from mica_ray.serving.support_sessions import SupportSessions

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

PATH = "/v1/support/sessions"


def add_session_routes(app: FastAPI, sessions: SupportSessions, callers: Callers) -> None:
    """Add the routes."""
    from fastapi import Request, Response

    settings = sessions.settings

    def owner(request: Request) -> str:
        return callers.admit(request.headers.get("authorization", ""))

    async def begin(request: Request) -> Response:
        name = owner(request)
        body = read_opening(await json_content(request))
        session = sessions.open(name, body, locale_of(request, body.locale, settings))
        return json_response(sessions.described(session), status=201)

    async def say(request: Request, session_id: str) -> Response:
        session = sessions.find(owner(request), session_id)
        body = read_said(await json_content(request), settings)
        if body.stream:
            return await event_response(_events(sessions, session, body))
        async with aclosing(sessions.pieces(session, body)) as pieces:
            last = [piece async for piece in pieces][-1]
        assert isinstance(last, SupportSession)
        return json_response(_told(sessions, last))

    async def show(request: Request, session_id: str) -> Response:
        return json_response(sessions.described(sessions.find(owner(request), session_id)))

    async def forget(request: Request, session_id: str) -> Response:
        sessions.store.delete(sessions.find(owner(request), session_id).id)
        return json_response({"id": session_id, "object": "support.session.deleted", "deleted": True})

    for route in (begin, say, show, forget):
        route.__annotations__ |= {"request": Request, "return": Response}
    app.add_api_route(PATH, begin, methods=["POST"], response_model=None)
    one = PATH + "/{session_id}"
    app.add_api_route(one, show, methods=["GET"], response_model=None)
    app.add_api_route(one, forget, methods=["DELETE"], response_model=None)
    app.add_api_route(one + "/messages", say, methods=["POST"], response_model=None)


async def _events(
    sessions: SupportSessions, session: SupportSession, body: SaidBody
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
