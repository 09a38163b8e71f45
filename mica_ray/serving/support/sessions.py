"""Support sessions: a dialogue the service keeps, with a need state estimated by a judge.

Routes: support/routes.py. The session values and their stores: support/session.py.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.seeding import derive_seed
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import ChatRequest, TextDelta
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.support.body import MessageBody, SessionBody
from mica_ray.serving.support.need_estimator import NeedEstimator, distance_left, next_state
from mica_ray.serving.support.session import Change, SessionStore, SupportSession, SupportTurn
from mica_ray.types import Message, Sampling, State, Status

_LOG = logging.getLogger(__name__)
_NO_REPLY = "The reply is empty, so there is nothing to judge."
_NO_SCORE = "The judge returned no score."
_TOO_LATE = "The judge did not answer in time."


@dataclass(slots=True, eq=False)
class SupportSessions:
    """Keeps dialogues. Consumes messages, produces replies and states, waits for model and judge.

    Args:
        responder: care check and model.
        store: of the dialogues.
        settings: limits and times.
        estimator: of the need state; None: no estimate.
        limit_of: returns how many sessions a key may have at the same time; None: no limit of its own.
    """

    responder: Responder
    store: SessionStore
    settings: ServeSettings
    estimator: NeedEstimator | None
    limit_of: Callable[[str], int] | None = None
    _busy: set[str] = field(default_factory=set[str])

    def open(self, owner: str, body: SessionBody, locale: str) -> SupportSession:
        """Open a session.

        Raises:
            ApiError: 404, there is no such model; 429, the store is full or the key is at its limit.
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
        limit = None if self.limit_of is None else self.limit_of(owner)
        if not self.store.put(session, max_of_owner=limit):
            raise ApiError(
                429,
                "The service, or this key, has its limit of open sessions. Delete one, or try again later.",
                type="rate_limit_error",
                code="too_many_sessions",
                retry_after=60,
            )
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
        self, owner: str, session_id: str, body: MessageBody
    ) -> AsyncGenerator[TextDelta | SupportSession, None]:
        """Yield the reply in pieces, then the session with the new turn and its state.

        The session is read after it is marked as busy, so that it has every turn that ended before.

        Raises:
            ApiError: 404, there is no such session; 409, a reply of it is in progress; or the model returned
                no reply.
        """
        if session_id in self._busy:
            raise ApiError(
                409,
                "A reply of this session is in progress. Wait for it before you send a message.",
                code="session_busy",
            )
        self._busy.add(session_id)
        try:
            session = self.find(owner, session_id)
            request = self._request(session, body)
            finding = await self.responder.check_care(request, session.locale)
            texts: list[str] = []
            async with aclosing(self.responder.stream(request, finding)) as pieces:
                async for piece in pieces:
                    if not piece.is_help_line:
                        texts.append(piece.text)
                    if piece.text.strip() or not piece.is_help_line:  # Not the separator after it.
                        yield piece
            turn = SupportTurn(
                said=body.content,
                reply="".join(texts),
                care=None if finding is None else finding.kind,
                help_line="" if finding is None else finding.lead,
            )
            # Stored before it is judged: a judge that hangs must not cost the session this turn.
            session = self._store(session, lambda stored: replace(stored, turns=(*stored.turns, turn)))
            yield await self._judge(session)
        except ApiError as error:
            if error.code == "context_length_exceeded":
                problem = "The session is longer than the model's context. Open a new one."
                raise ApiError(400, problem, param="content", code=error.code) from error
            raise
        finally:
            self._busy.discard(session_id)

    def session_json(self, session: SupportSession) -> dict[str, object]:
        """Return a session as JSON values."""
        return {
            "id": session.id,
            "object": "support.session",
            "model": session.model,
            "created": int(session.created),
            "expires": int(session.expires),
            "messages": [message for turn in session.turns for message in _messages_json(turn)],
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
        unanswered: list[str] = []
        for turn in session.turns:
            unanswered.append(turn.said)
            if turn.reply:
                messages.append({"role": "user", "content": "\n\n".join(unanswered)})
                messages.append({"role": "assistant", "content": turn.reply})
                unanswered = []
        messages.append({"role": "user", "content": "\n\n".join([*unanswered, body.content])})
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
        last, index = session.turns[-1], len(session.turns) - 1
        if last.reply:
            judged = await self._judged(self.estimator, session)
        else:
            judged = replace(last, error=_NO_REPLY)
        return self._store(session, lambda stored: _with_turn(stored, index, last, judged))

    async def _judged(self, estimator: NeedEstimator, session: SupportSession) -> SupportTurn:
        """Return the last turn with its state, or with the reason why it has none."""
        before = self._states(session)[-1]
        judgement = await estimator.score_reply(
            _spoken(session.turns), state=before, seed=derive_seed(session.id, len(session.turns))
        )
        if judgement.delta is not None:
            state = next_state(before, judgement)
            return replace(session.turns[-1], state=state, change=judgement.delta, error=None)
        # Not the judge's own message: it can name the endpoint, quote the conversation or contain a key.
        status = judgement.status
        self.responder.metrics.judge_failures.labels(reason=str(status)).inc()
        _LOG.warning("The judge returned no score for a reply: %s.", status)
        return replace(session.turns[-1], error=_TOO_LATE if status is Status.TIMED_OUT else _NO_SCORE)

    def _states(self, session: SupportSession) -> list[State]:
        """Return P_0 to P_T; a turn without a score repeats the state before it, as in training."""
        assert self.estimator is not None
        states = [self.estimator.start]
        for turn in session.turns:
            states.append(states[-1] if turn.state is None else turn.state)
        return states

    def _store(self, session: SupportSession, change: Change) -> SupportSession:
        """Change the stored session, from its latest form; one that was deleted meanwhile stays deleted."""
        expires = time.time() + self.settings.session_seconds
        stored = self.store.update(session.id, lambda found: replace(change(found), expires=expires))
        return change(session) if stored is None else stored


def _with_turn(
    session: SupportSession, index: int, before: SupportTurn, after: SupportTurn
) -> SupportSession:
    """Replace a turn where it was appended, or wherever another process moved it."""
    turns = list(session.turns)
    place = index if index < len(turns) and turns[index] == before else turns.index(before)
    turns[place] = after
    return replace(session, turns=tuple(turns))


def _spoken(turns: Sequence[SupportTurn]) -> list[SpokenTurn]:
    """Return what was said; messages without a reply belong to the turn of the next reply."""
    spoken: list[SpokenTurn] = []
    unanswered: list[str] = []
    for turn in turns:
        unanswered.append(turn.said)
        if turn.reply:
            spoken.append({"user": "\n\n".join(unanswered), "reply": turn.reply})
            unanswered = []
    return spoken


def _messages_json(turn: SupportTurn) -> list[dict[str, str]]:
    reply = {"role": "assistant", "content": turn.reply}
    if turn.help_line:
        reply["help_line"] = turn.help_line
    return [{"role": "user", "content": turn.said}, reply]
