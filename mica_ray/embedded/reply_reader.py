"""Finds kinds of support and harms in a reply by patterns, for the embedded judge.

A stand-in for a language model and no measure of empathy: it knows about a hundred English phrases. Needs and
timing are evaluated in embedded/world.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Kind(StrEnum):
    """Kinds of support in a reply."""

    ACKNOWLEDGE = "acknowledge"
    """Names or accepts the feeling (serves A)."""
    EXPLORE = "explore"
    """Asks an open question about what it is like or what it means (serves C)."""
    REFRAME = "reframe"
    """Offers another way to see it (serves C)."""
    AFFIRM = "affirm"
    """Names a strength or something already done (serves P)."""
    STEP = "step"
    """Offers a small concrete step without demanding it (serves P)."""


class Harm(StrEnum):
    """Harms in a reply, costly at any time."""

    DISMISS = "dismiss"
    PREACH = "preach"
    HOLLOW = "hollow"
    """Stock comfort that mentions nothing of this person: performative empathy."""
    OVERLOAD = "overload"
    """More than two needs at once, or too many sentences or words."""
    BROKEN = "broken"
    """Ends before its last sentence is complete."""
    REPEAT = "repeat"
    """Nearly equal to an earlier reply of the same dialogue."""
    ECHO = "echo"
    """Repeats the user's own words, with or without turning "my" into "your"."""
    IGNORE = "ignore"
    """Offers nothing and mentions nothing the user said, is too short, or is not language."""
    SLIP = "slip"
    """Speaks as the person who needs help, for both sides, or about the user in the third person."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Kinds, harms and evidence found in one reply."""

    kinds: frozenset[Kind]
    harms: frozenset[Harm]
    is_specific: bool
    """Whether it contains a content word of the user."""
    evidence: dict[str, str]
    """By kind or harm: the matching words."""


MAX_WORDS = 60
"""A longer reply is a lecture; the policy prompt asks for one or two short sentences."""
MAX_SENTENCES = 3
MIN_WORDS = 4
REPEAT_OVERLAP = 0.6
"""Share of a reply's word trigrams in one earlier reply from which it is a repetition."""
ECHO_OVERLAP = 0.6
"""Share of a sentence's word trigrams in the user's last message from which it is an echo."""

_FEELING = (
    r"(?:heavy|hard|painful|lonely|exhausting|tiring|scary|frightening|frustrating|unfair|overwhelming|upsetting|sad"
    r"|difficult|tough|stressful|worrying|confusing|draining|hurtful|disappointing|rough|a lot)"
)
_STATE = (
    r"(?:hurt|hurts|sad|tired|afraid|scared|angry|anxious|alone|lonely|lost|ashamed|worn|overwhelmed|stuck|let down|upset|worried"
    r"|frustrated|heavy|torn|disappointed|stressed|confused|guilty|nervous)"
)

_KINDS: dict[Kind, tuple[str, ...]] = {
    Kind.ACKNOWLEDGE: (
        rf"(?<!\bhe )(?<!\bshe )(?<!\bthey )(?<!\bwe )\b(?:sounds|feels|must be|must feel|must have been|seems|is|has been) (?:so |very |really |truly |quite |incredibly )?{_FEELING}\b",
        r"\bno wonder\b[^.?!]*\b(?:you|it|that)\b",
        r"\bmakes sense (?:that )?you\b|\bof course (?:you|it|that)\b[^.?!]*\b(?:feel|hurt|hurts|weighs|tired|afraid|sad|stings)\b",
        r"\b(?:understandable|natural|okay|human) (?:that you|to feel|for you to feel)\b|\byour feelings? (?:is|are|makes?) (?:valid|understandable|sense)\b",
        rf"\byou (?:feel|are feeling|must feel|must be feeling|sound|seem|are) (?:so |very |really |deeply |pretty )?{_STATE}\b",
        rf"\bi (?:can )?(?:hear|see|sense|notice) (?:how|that|the|your)\b[^.?!]*\b(?:{_STATE[3:-1]}|{_FEELING[3:-1]}|weighs|pain|worry|hurting)\b",
        r"\bweighs? on you\b|\bthat would hurt\b|\banyone would (?:feel|be)\b",
    ),
    Kind.EXPLORE: (
        r"\b(?:what(?! if)|how(?! about)|which part|when)\b[^.?!]*\b(?:you|your|it|that|this)\b[^.?!]*\?",
        r"\btell me more about\b|\bcan you say more about\b|\bwould you like to tell me\b",
    ),
    Kind.REFRAME: (
        r"\banother way to (?:see|look at|read|understand)\b|\bone way to (?:see|look at|read)\b|\blooked at another way\b",
        r"\b(?:may|might|could) (?:also |really |simply |rather )?(?:mean|say|show|be a sign)\b[^.?!]*\b(?:rather than|and not|more than|not that|instead of|about)\b",
        r"\b(?:does not|doesn't|need not) (?:have to )?mean (?:that )?you\b",
        r"\b(?:perhaps|maybe) (?:it|this|that|the|your|his|her|their|what|both)\b[^.?!]*\b(?:not|less|more|rather|because|mixed up)\b",
        r"\btwo (?:different )?things\b[^.?!]*\b(?:true|mixed|apart|at once)\b|\bcan both be true\b|\bwhat (?:it|this) (?:really )?shows is\b",
    ),
    Kind.AFFIRM: (
        r"\byou (?:have|'ve|already|did|kept|keep|still|managed|found|showed|are)\b[^.?!]*\b(?:already|strength|strong|courage|brave|capable|managed|kept going|come far|held on|carried)\b",
        r"\byou (?:still|really|clearly|always) care\b",
        r"\b(?:takes|took|shows) (?:real |so much |a lot of )?(?:courage|strength|care|patience|resilience)\b",
        r"\bi (?:trust|believe) (?:that )?you (?:can|will|know)\b",
    ),
    Kind.STEP: (
        r"\b(?:one|a) (?:very |really )?(?:small|first|tiny|gentle|little|simple|next) (?:step|thing|move|try|start)\b",
        r"\byou (?:could|might|can) (?:also |perhaps |maybe |start|begin|try|write|ask|call|take|set|choose|tell|pick|give|talk|set aside|reach|make)\b",
        r"\b(?:would it help|might it help|it might help|it may help|it could help|what if you|how about|consider|try to|try)\b[^.?!]*\b(?:ing|to|a|the|one|five|ten|minutes|writing|asking|calling|talking|taking|you)\b",
    ),
}

_HARMS: dict[Harm, tuple[str, ...]] = {
    Harm.DISMISS: (
        r"\bothers? (?:have|has|people have) it worse\b|\bit could be worse\b|\bat least you\b",
        r"\b(?:not|isn't|is not|hardly) (?:such |really )?a big deal\b|\bget over\b|\bcalm down\b|\bjust relax\b|\btoo sensitive\b",
        r"\b(?:overreact|overreacting|making a fuss|being dramatic|stop complaining|forget about it|nothing to worry)\b",
        r"\beveryone (?:has|goes through|deals with)\b[^.?!]*\b(?:problems|this|that|it)\b",
    ),
    Harm.PREACH: (
        r"\byou (?:really |simply |just )?(?:should|shouldn't|must not|ought to|have to|need to|are supposed to|had better)\b",
        r"\byou must (?!be\b|feel\b|have\b)\w+|\bit is your duty\b|\bthe right thing is\b|\byou are responsible for\b|\bit'?s important (?:to|that you)\b",
    ),
    Harm.HOLLOW: (
        r"\beverything happens for a reason\b|\btime heals\b|\bstay (?:positive|strong)\b|\blook on the bright side\b|\bhang in there\b",
        r"\b(?:things|it|everything) will (?:get better|be okay|be fine|be all right|work out)\b|\bdon't worry\b|\bdo not worry\b",
        r"\byou are not alone\b|\byou're not alone\b|\bi(?:'m| am) (?:always )?here (?:for you|to help|to listen)\b|\bsending (?:you )?(?:love|hugs|strength)\b",
        r"\bi(?:'m| am) (?:so |very |really )?sorry (?:to hear|you|that|for)\b|\bi (?:totally |completely |fully )?understand (?:how|what|your|exactly)\b",
        r"\bthank you for sharing\b|\bkeep your chin up\b|\bbelieve in yourself\b|\byou(?:'ve| have)? got this\b|\byou can do (?:it|anything)\b",
    ),
    Harm.SLIP: (
        r"<\s?\||\b(?:user|assistant|system|human)\s*:",
        r"\bthe user (?:is|feels|says|wants|needs|seems)\b|\b(?:comfort|help|answer) the user\b",
    ),
}

SERVES: dict[Kind, int] = {
    Kind.ACKNOWLEDGE: 1,
    Kind.EXPLORE: 0,
    Kind.REFRAME: 0,
    Kind.AFFIRM: 2,
    Kind.STEP: 2,
}
"""Index of the axis (C, A, P) that each kind serves."""

_FUNCTION_WORDS = frozenset(
    "a about after all also am an and any are as at be because been before being but by can could did do does doing down"
    " each even every for from get give go had has have he her here him his how i if in into is it its just keep know let"
    " like look make may me might more most much must my need no not now of off on one only or other our out over own part"
    " people perhaps really right said same say see she should so some still such take tell than that the their them then"
    " there these they thing things think this those through to too try up us very want was way we well were what when"
    " where which while who why will with would yes you your yours myself yourself it's i'm you're that's don't can't"
    " isn't doesn't wasn't won't i've you've".split()
)
_COMMON_WORDS = frozenset(
    "feel feels feeling felt time day days today always never something anything nothing everything everyone someone lot"
    " little bit bad good better worse hard heavy first small step start again back come comes going gone help talk turn"
    " able away mind sense mean means happen happened year years week weeks month sorry okay sure maybe yet ever since"
    " without around another already enough sometimes though whole long new old last next two three".split()
)
_TOPICLESS = _FUNCTION_WORDS | _COMMON_WORDS
_SENTENCE = re.compile(r"[a-z][^.?!]*")
_CLAUSE_END = re.compile(r"[,;:.?!]|\bbut\b")
_DENIAL = re.compile(r"\b(?:not|never|nobody|nothing|hardly|no one|\w+n't)\b")
_DENIABLE = frozenset({Kind.ACKNOWLEDGE, Kind.AFFIRM})
"""Kinds that a preceding "not" inverts; phrases of the other kinds often contain one."""
_MIRRORED = {"i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "am": "are"}
_MISPLACED_ARTICLE = re.compile(
    r"\b(?:the|a|an|your|my) (?:the|a|an|your|my|of|and|or|is|are|was|be|to(?!-)|you|i|he|she|they|we)\b"
)
"""An article or possessive without a noun: a sign of words in random order."""
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_COMPILED = {
    mark: tuple(re.compile(p) for p in patterns) for mark, patterns in (*_KINDS.items(), *_HARMS.items())
}


def _plain(text: str) -> str:
    return text.lower().replace("\u2019", "'")  # Typographic to plain apostrophes.


def words_of(text: str) -> list[str]:
    """Return the lower-case words of a text."""
    return _WORD.findall(_plain(text))


def content_words(text: str) -> list[str]:
    """Return the words that carry a topic, in order, stemmed so that "exams" equals "exam"."""
    return [
        _stem(word)
        for word in words_of(text)
        if len(word) > 2 and word not in _TOPICLESS and not re.fullmatch(_STATE, word)
    ]


def read_reply(reply: str, *, heard: Sequence[str], earlier: Sequence[str]) -> Reading:
    """Find the kinds and harms of one reply.

    Args:
        reply: the text to read.
        heard: the user's messages so far, oldest first.
        earlier: the earlier replies of the same dialogue.
    """
    text = _plain(reply)
    evidence: dict[str, str] = {}
    for mark, patterns in _COMPILED.items():
        matches = (match for pattern in patterns for match in pattern.finditer(text))
        found = next((match for match in matches if mark not in _DENIABLE or not _is_denied(match)), None)
        if found is not None:
            evidence[str(mark)] = found.group(0)
    kinds = {kind for kind in Kind if kind in evidence}
    harms = {harm for harm in Harm if harm in evidence}
    shared = set(content_words(reply)) & {word for message in heard for word in content_words(message)}
    if Kind.STEP in kinds and Harm.PREACH in harms:
        kinds.discard(Kind.STEP)  # An order is not an offer.
    if Harm.HOLLOW in harms and shared and kinds:
        # Next to something specific, a stock phrase is mere politeness.
        harms.discard(Harm.HOLLOW)
    harms |= _form_harms(text, kinds, shared, heard=heard, earlier=earlier)
    kept = {key: value for key, value in evidence.items() if key in kinds or key in harms}
    return Reading(frozenset(kinds), frozenset(harms), bool(shared), kept)


def _form_harms(
    text: str, kinds: set[Kind], shared: set[str], *, heard: Sequence[str], earlier: Sequence[str]
) -> set[Harm]:
    """Find the harms that depend on the form of a reply and not on a phrase."""
    words, sentences = words_of(text), _SENTENCE.findall(text)
    needs = {SERVES[kind] for kind in kinds if kind is not Kind.EXPLORE}
    found = {
        Harm.OVERLOAD: len(needs) > 2 or len(words) > MAX_WORDS or len(sentences) > MAX_SENTENCES,
        Harm.BROKEN: not text.rstrip(" \n\"')").endswith((".", "?", "!", "…")),
        Harm.REPEAT: any(_overlap(words, words_of(other)) >= REPEAT_OVERLAP for other in earlier),
        Harm.ECHO: any(_is_echo(part, message) for part in (text, *sentences) for message in heard[-1:]),
        Harm.IGNORE: len(words) < MIN_WORDS or not _is_language(text, words) or not (kinds or shared),
        Harm.SLIP: _is_slip(words),
    }
    return {harm for harm, is_found in found.items() if is_found}


def _is_language(text: str, words: Sequence[str]) -> bool:
    """Whether the words look like English prose: enough function words, and no word too often."""
    function_fraction = sum(word in _FUNCTION_WORDS for word in words) / max(1, len(words))
    most_common = Counter(words).most_common(1)[0][1] if words else 0
    is_varied = most_common <= max(3, len(words) // 5) and len(set(words)) >= 0.5 * len(words)
    return is_varied and function_fraction >= 0.25 and not _MISPLACED_ARTICLE.search(text)


def _is_denied(match: re.Match[str]) -> bool:
    """Whether the clause has a "not" before the match: "I do not think it sounds hard"."""
    clause = _CLAUSE_END.split(match.string[: match.start()])[-1]
    return _DENIAL.search(clause) is not None


def _is_echo(sentence: str, message: str) -> bool:
    """Whether a sentence repeats a message, from either side's perspective."""
    mirrored, others = (
        [_MIRRORED.get(word, word) for word in words_of(side)] for side in (sentence, message)
    )
    return _overlap(mirrored, others) >= ECHO_OVERLAP


def _is_slip(words: Sequence[str]) -> bool:
    """Whether the reply is about the helper instead of the user."""
    own = sum(word in {"my", "me", "myself", "i'm", "i've", "mine"} for word in words)
    own += sum(pair in {("i", "feel"), ("i", "am"), ("i", "have"), ("i", "keep")} for pair in pairwise(words))
    turned = sum(word in {"you", "your", "you're", "you've", "yourself", "yours"} for word in words)
    return own >= 2 and own > turned


def _overlap(words: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of trigrams of `words` that are in `others`; 0 for short texts."""
    trigrams = set(zip(words, words[1:], words[2:], strict=False))
    if len(trigrams) < 2:
        return 0.0
    return len(trigrams & set(zip(others, others[1:], others[2:], strict=False))) / len(trigrams)


def _stem(word: str) -> str:
    """Remove plural and possessive endings."""
    word = word.removesuffix("'s")
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
