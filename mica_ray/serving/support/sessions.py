"""Support sessions: the service keeps a dialogue, and a judge estimates the need state turn by turn.

The routes are in session_routes.py, the values and where they are kept in support_session.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from mica_ray.seeding import derive_seed
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import ChatRequest, TextDelta
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.support.body import MessageBody, SessionBody
from mica_ray.serving.support.need_estimator import NeedEstimator, distance_left, next_state
from mica_ray.serving.support.session import SessionStore, SupportSession, SupportTurn
from mica_ray.types import Message, Sampling, State


@dataclass(slots=True, eq=False)
class SupportSessions:
    """Keeps dialogues. Consumes what a person says, produces replies and states; waits for model and judge.

    Args:
        responder: care check and model.
        store: of the dialogues.
        settings: bounds and times.
        estimate: of the need state; None gives none.
    """

    responder: Responder
    store: SessionStore
    settings: ServeSettings
    estimate: NeedEstimator | None
    _busy: set[str] = field(default_factory=set[str])

    def open(self, owner: str, body: SessionBody, locale: str) -> SupportSession:
        """Begin a session.

        Raises:
            ApiError: 404, no such model; 429, too many sessions are kept.
        """
        now = time.time()
        session = SupportSession(
            id=secrets.token_urlsafe(24),
            owner=owner,
            model=self.responder.named(body.model),
            locale=locale,
            created=now,
            expires=now + self.settings.session_seconds,
        )
        self._keep(session)
        return session

    def find(self, owner: str, session_id: str) -> SupportSession:
        """Give a session of this owner.

        Raises:
            ApiError: 404, there is none; another's is as unknown as one that never was.
        """
        session = self.store.get(session_id)
        if session is None or session.owner != owner:
            raise ApiError(404, "no such session, or it has expired", code="session_not_found")
        return session

    async def pieces(
        self, session: SupportSession, body: MessageBody
    ) -> AsyncGenerator[TextDelta | SupportSession, None]:
        """Give the reply piece by piece, and last the session with the new turn and its state.

        Raises:
            ApiError: 409, a reply is being made already; or the model gives no answer.
        """
        if session.id in self._busy:
            raise ApiError(409, "a reply of this session is still in the making", code="session_busy")
        self._busy.add(session.id)
        try:
            request = self._request(session, body)
            finding = self.responder.find(request, session.locale)
            texts: list[str] = []
            async with aclosing(self.responder.pieces(request, finding)) as pieces:
                async for piece in pieces:
                    texts.append(piece.text)
                    yield piece
            turn = SupportTurn(
                said=body.content, reply="".join(texts), care=None if finding is None else finding.kind
            )
            # Kept before it is judged: a judge that hangs must not cost the dialogue its turn.
            session = self._with(session, turn)
            yield await self._judged(session)
        finally:
            self._busy.discard(session.id)

    def described(self, session: SupportSession) -> dict[str, object]:
        """Give a session as JSON."""
        return {
            "id": session.id,
            "object": "support.session",
            "model": session.model,
            "created": int(session.created),
            "expires": int(session.expires),
            "messages": [
                {"role": role, "content": text}
                for turn in session.turns
                for role, text in (("user", turn.said), ("assistant", turn.reply))
            ],
            "need": self.need(session),
        }

    def need(self, session: SupportSession) -> dict[str, object] | None:
        """Give the estimated path as JSON; None where nobody estimates."""
        if self.estimate is None:
            return None
        keys = [axis.key for axis in self.estimate.domain.axes]

        def named(state: State | None) -> dict[str, float] | None:
            return None if state is None else dict(zip(keys, state, strict=True))

        last = session.turns[-1] if session.turns else None
        start = self.estimate.start
        stop = self.estimate.progress(self._states(session))
        return {
            "axes": [{"key": axis.key, "name": axis.name} for axis in self.estimate.domain.axes],
            "start": named(start),
            "start_distance": distance_left(start),
            "path": [named(turn.state) for turn in session.turns],
            "distances": [None if t.state is None else distance_left(t.state) for t in session.turns],
            "state": named(last.state) if last else None,
            "change": named(last.change) if last else None,
            "distance": None if last is None or last.state is None else distance_left(last.state),
            "error": last.error if last else None,
            "progress": "open" if stop is None else str(stop),
        }

    def _request(self, session: SupportSession, body: MessageBody) -> ChatRequest:
        if 2 * len(session.turns) >= self.settings.max_messages:
            raise ApiError(
                400, "the session is full; begin another", param="content", code="too_many_messages"
            )
        messages: list[Message] = []
        for turn in session.turns:
            messages.append({"role": "user", "content": turn.said})
            messages.append({"role": "assistant", "content": turn.reply})
        messages.append({"role": "user", "content": body.content})
        sampling = Sampling(
            temperature=self.settings.default_temperature, max_tokens=self.settings.default_reply_tokens
        )
        # A stored session may be of a model that is not served any more.
        model = self.responder.named(session.model)
        return ChatRequest(model, tuple(messages), sampling, is_streamed=body.stream)

    async def _judged(self, session: SupportSession) -> SupportSession:
        if self.estimate is None:
            return session
        if not session.turns[-1].reply:
            mute = replace(session.turns[-1], error="nothing was said: the reply ended inside its thinking")
            return self._with(replace(session, turns=session.turns[:-1]), mute)
        states = self._states(session)
        judgement = await self.estimate.score_reply(
            [{"user": turn.said, "reply": turn.reply} for turn in session.turns],
            state=states[-1],
            seed=derive_seed(session.id, len(session.turns)),
        )
        is_good = judgement.delta is not None
        turn = replace(
            session.turns[-1],
            state=next_state(states[-1], judgement) if is_good else None,
            change=judgement.delta,
            error=None if is_good else judgement.error or "the judge gave no score",
        )
        return self._with(replace(session, turns=session.turns[:-1]), turn)

    def _states(self, session: SupportSession) -> list[State]:
        """Give P_0 to P_T; a turn without a score repeats the state before it, as in training."""
        assert self.estimate is not None
        states = [self.estimate.start]
        for turn in session.turns:
            states.append(states[-1] if turn.state is None else turn.state)
        return states

    def _with(self, session: SupportSession, turn: SupportTurn) -> SupportSession:
        longer = replace(
            session, turns=(*session.turns, turn), expires=time.time() + self.settings.session_seconds
        )
        # Deleted while the reply was made: then it stays deleted.
        if self.store.get(session.id) is not None:
            self._keep(longer)
        return longer

    def _keep(self, session: SupportSession) -> None:
        if not self.store.put(session):
            raise ApiError(
                429,
                "too many sessions are kept; try again later",
                type="rate_limit_error",
                code="too_many_sessions",
                retry_after=60,
            )
