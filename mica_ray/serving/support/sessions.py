"""Support sessions: a dialogue the service keeps, with a need state estimated by a judge.

Routes: support/routes.py. The session values and their stores: support/session.py.
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
    """Keeps dialogues. Consumes messages, produces replies and states, waits for model and judge.

    Args:
        responder: care check and model.
        store: of the dialogues.
        settings: limits and times.
        estimator: of the need state; None: no estimate.
    """

    responder: Responder
    store: SessionStore
    settings: ServeSettings
    estimator: NeedEstimator | None
    _busy: set[str] = field(default_factory=set[str])

    def open(self, owner: str, body: SessionBody, locale: str) -> SupportSession:
        """Open a session.

        Raises:
            ApiError: 404, there is no such model; 429, the store is full.
        """
        now = time.time()
        session = SupportSession(
            id=secrets.token_urlsafe(24),
            owner=owner,
            model=self.responder.resolve_model(body.model),
            locale=locale,
            created=now,
            expires=now + self.settings.session_seconds,
        )
        self._put(session)
        return session

    def find(self, owner: str, session_id: str) -> SupportSession:
        """Return a session of this owner.

        Raises:
            ApiError: 404, there is none. The response does not reveal whether another owner has it.
        """
        session = self.store.get(session_id)
        if session is None or session.owner != owner:
            raise ApiError(
                404,
                "The session does not exist or has expired. Open a new one.",
                code="session_not_found",
            )
        return session

    async def reply(
        self, session: SupportSession, body: MessageBody
    ) -> AsyncGenerator[TextDelta | SupportSession, None]:
        """Yield the reply in pieces, then the session with the new turn and its state.

        Raises:
            ApiError: 409, a reply of this session is in progress; or the model returned no reply.
        """
        if session.id in self._busy:
            raise ApiError(
                409,
                "A reply of this session is in progress. Wait for it before you send a message.",
                code="session_busy",
            )
        self._busy.add(session.id)
        try:
            request = self._request(session, body)
            finding = self.responder.check_care(request, session.locale)
            texts: list[str] = []
            async with aclosing(self.responder.stream(request, finding)) as pieces:
                async for piece in pieces:
                    texts.append(piece.text)
                    yield piece
            turn = SupportTurn(
                said=body.content, reply="".join(texts), care=None if finding is None else finding.kind
            )
            # Stored before it is judged: a judge that hangs must not cost the session this turn.
            session = self._append(session, turn)
            yield await self._judge(session)
        finally:
            self._busy.discard(session.id)

    def session_json(self, session: SupportSession) -> dict[str, object]:
        """Return a session as JSON values."""
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
            "need": self.need_json(session),
        }

    def need_json(self, session: SupportSession) -> dict[str, object] | None:
        """Return the estimated states as JSON values; None without an estimator."""
        if self.estimator is None:
            return None
        keys = [axis.key for axis in self.estimator.domain.axes]

        def by_axis(state: State | None) -> dict[str, float] | None:
            return None if state is None else dict(zip(keys, state, strict=True))

        last = session.turns[-1] if session.turns else None
        start = self.estimator.start
        stop = self.estimator.progress(self._states(session))
        return {
            "axes": [{"key": axis.key, "name": axis.name} for axis in self.estimator.domain.axes],
            "start": by_axis(start),
            "start_distance": distance_left(start),
            "path": [by_axis(turn.state) for turn in session.turns],
            "distances": [None if t.state is None else distance_left(t.state) for t in session.turns],
            "state": by_axis(last.state) if last else None,
            "change": by_axis(last.change) if last else None,
            "distance": None if last is None or last.state is None else distance_left(last.state),
            "error": last.error if last else None,
            "progress": "open" if stop is None else str(stop),
        }

    def _request(self, session: SupportSession, body: MessageBody) -> ChatRequest:
        if 2 * len(session.turns) >= self.settings.max_messages:
            raise ApiError(
                400,
                f"The session has its limit of {self.settings.max_messages} messages. Open a new one.",
                param="content",
                code="too_many_messages",
            )
        messages: list[Message] = []
        for turn in session.turns:
            messages.append({"role": "user", "content": turn.said})
            messages.append({"role": "assistant", "content": turn.reply})
        messages.append({"role": "user", "content": body.content})
        sampling = Sampling(
            temperature=self.settings.default_temperature, max_tokens=self.settings.default_reply_tokens
        )
        # A session from a file may name a model that is no longer served.
        model = self.responder.resolve_model(session.model)
        return ChatRequest(model, tuple(messages), sampling, is_streamed=body.stream)

    async def _judge(self, session: SupportSession) -> SupportSession:
        """Judge the last turn and store its state."""
        if self.estimator is None:
            return session
        before = replace(session, turns=session.turns[:-1])
        if not session.turns[-1].reply:
            reason = "The reply is empty: it ended while the model was still thinking."
            return self._append(before, replace(session.turns[-1], error=reason))
        states = self._states(session)
        judgement = await self.estimator.score_reply(
            [{"user": turn.said, "reply": turn.reply} for turn in session.turns],
            state=states[-1],
            seed=derive_seed(session.id, len(session.turns)),
        )
        has_score = judgement.delta is not None
        turn = replace(
            session.turns[-1],
            state=next_state(states[-1], judgement) if has_score else None,
            change=judgement.delta,
            error=None if has_score else judgement.error or "The judge returned no score.",
        )
        return self._append(before, turn)

    def _states(self, session: SupportSession) -> list[State]:
        """Return P_0 to P_T; a turn without a score repeats the state before it, as in training."""
        assert self.estimator is not None
        states = [self.estimator.start]
        for turn in session.turns:
            states.append(states[-1] if turn.state is None else turn.state)
        return states

    def _append(self, session: SupportSession, turn: SupportTurn) -> SupportSession:
        longer = replace(
            session, turns=(*session.turns, turn), expires=time.time() + self.settings.session_seconds
        )
        # A session that was deleted during the reply stays deleted.
        if self.store.get(session.id) is not None:
            self._put(longer)
        return longer

    def _put(self, session: SupportSession) -> None:
        if not self.store.put(session):
            raise ApiError(
                429,
                f"The service has {self.settings.max_sessions} open sessions, its limit. Try again later.",
                type="rate_limit_error",
                code="too_many_sessions",
                retry_after=60,
            )
