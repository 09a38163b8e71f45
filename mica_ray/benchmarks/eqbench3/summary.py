"""The scores of a policy from its conversations and the judgements; nothing missing is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from mica_ray.benchmarks.answers import Answer
from mica_ray.benchmarks.eqbench3.conversations import Conversation, FindAnswer
from mica_ray.benchmarks.eqbench3.items import EqBench3, Item
from mica_ray.benchmarks.eqbench3.transcript import sections
from mica_ray.benchmarks.scores import GroupScore, group_score, scores_by
from mica_ray.statistics import Interval


@dataclass(frozen=True, slots=True)
class RubricSummary:
    """Scores by group of items, and how many conversations have none."""

    groups: Mapping[str, Mapping[str, GroupScore]]
    """Scores 0 to 100 by field and value: "all", "part" and "category"."""
    criteria: Mapping[str, Mapping[str, Interval]]
    """Values 0 to 20 of each criterion, for "conversations" and for "analyses"."""
    num_missing: int
    """Conversations that are not finished or not judged yet, because a call failed."""
    num_invalid: int
    """Judgements that could not be read; these conversations are left out of every mean."""
    num_unusable: int
    """Conversations with an empty or unfinished reply. Only `strict` counts them, as 0."""
    num_unsectioned: int
    """Replies without the sections that they must have. The judge saw them as they are."""
    num_replies: int
    """Replies that must have sections."""

    def record(self) -> dict[str, object]:
        """Return everything as JSON."""
        groups: dict[str, object] = {
            field: {value: asdict(score) for value, score in scores.items()}
            for field, scores in self.groups.items()
        }
        return {
            **groups,
            "all": asdict(self.groups["all"]["all"]),
            "criteria": {
                kind: {name: asdict(value) for name, value in values.items()}
                for kind, values in self.criteria.items()
            },
            "missing": self.num_missing,
            "invalid_judgements": self.num_invalid,
            "unusable_conversations": self.num_unusable,
            "replies_without_sections": self.num_unsectioned,
            "replies_with_sections_due": self.num_replies,
        }


def summarize(
    data: EqBench3,
    wanted: Sequence[tuple[Item, int]],
    conversations: Sequence[Conversation],
    find: FindAnswer,
) -> RubricSummary:
    """Add up the scores of the wanted items.

    Args:
        data: the benchmark.
        wanted: items and sample numbers.
        conversations: the finished ones among them.
        find: returns the judgement of an item and sample.
    """
    judgements = {
        (one.item.id, one.sample): find(one.item.id, one.sample)
        for one in conversations
        if one.problem is None
    }
    unusable = [
        Answer(one.item.id, one.sample, problem=one.problem)
        for one in conversations
        if one.problem is not None
    ]
    judged = [judgement for judgement in judgements.values() if judgement is not None]
    scored = [judgement for judgement in judged if judgement.scores is not None]
    counted = [*scored, *unusable]
    items = list(dict.fromkeys(item for item, _ in wanted))
    questions = [item.question for item in items]
    form = [_num_sectioned(data, one) for one in conversations if data.headings(one.item.kind)]
    return RubricSummary(
        groups={
            "all": {"all": group_score(questions, counted)},
            "part": scores_by("part", questions, counted),
            "category": scores_by("category", questions, counted),
        },
        criteria=_criteria(data, items, scored),
        num_missing=len(wanted) - len(judged) - len(unusable),
        num_invalid=len(judged) - len(scored),
        num_unusable=len(unusable),
        num_unsectioned=sum(replies - sectioned for sectioned, replies in form),
        num_replies=sum(replies for _, replies in form),
    )


def _num_sectioned(data: EqBench3, conversation: Conversation) -> tuple[int, int]:
    """Count the replies that have all sections, and all replies."""
    headings = data.headings(conversation.item.kind)
    found = [sections(reply, headings) is not None for reply in conversation.replies]
    return sum(found), len(found)


def _criteria(
    data: EqBench3, items: Sequence[Item], scored: Sequence[Answer]
) -> dict[str, dict[str, Interval]]:
    """Return each criterion over the items that are rated on it, in the order of the files."""
    found: dict[str, dict[str, Interval]] = {}
    for name, is_analysis in (("conversations", False), ("analyses", True)):
        of_kind = [item for item in items if (item.kind == "analysis") is is_analysis]
        if not of_kind:
            continue
        questions = [item.question for item in of_kind]
        found[name] = {
            criterion: group_score(questions, scored, name=criterion).score
            for criterion in data.criteria(of_kind[0].kind)
        }
    return found
