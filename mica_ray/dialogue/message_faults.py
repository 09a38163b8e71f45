"""Recognizes texts that a model wrote and a person would not: scripts, control marks, talk as a model.

A fault costs one more draft, so that a rule may reject a few words of real people, but only a few.
"""

from __future__ import annotations

import re
import unicodedata

from mica_ray.chat.thinking_marks import KNOWN
from mica_ray.control_marks import MARK, folded

_HELPER = (
    r"(?:(?:the\s+)?(?:ai|virtual|chat|support)?[ -]?(?:assistant|helper|supporter|chatbot|bot)|ai|"
    r"chatgpt|gpt|model|"
    r"system|asistente|assistent|ассистент|アシスタント|어시스턴트|"
    r"(?:ai|人工智能|智能|虚拟|聊天)?(?:助手|助理|机器人)|支持者|倾听者|陪伴者|咨询师|心理咨询师|"
    r"人工智能|客服|系统)"
)
"""Names of the other side of the dialogue, as a script writes them."""
_WEAK_HELPER = (
    r"(?:(?:support )?agent|counsell?or|therapist|doctor|listener|companion|tutor|teacher|coach|friend|"
    r"医生|心理医生|老师|朋友|对方|辅导员)"
)
"""Names of the other side that people also write before a colon; they count next to a name of the user."""
_USER = (
    r"(?:(?:the\s+)?(?:user(?: \d)?|human|seeker|help[- ]?seeker|client|customer|actor|person)|usuario|"
    r"用户|患者|病人|"
    r"求助者|来访者|"
    r"倾诉者|顾客|客户)"
)
_MARKUP = r"[*_#>\-\[【<（(\s]{0,6}"
_COLON = r"[*_\]】>）)\s]{0,4}[:：][*_]{0,2}"
_LINE = rf"(?:^|\n){_MARKUP}"
_AFTER_SENTENCE = r"""(?:[.!?…。！？~”"'’()（）\[\]【】>][*_\s]{0,4}|[*_]{2})"""

_SCRIPT = re.compile(
    rf"{_LINE}(?:{_HELPER}|{_USER}){_COLON}|{_AFTER_SENTENCE}(?:{_HELPER}|{_USER}){_COLON}"
    rf"|{_LINE}(?:{_HELPER}|{_USER})[*_]{{0,2}}\s+[-–—]\s|(?:^|\n)[(（\[【](?:{_HELPER}|{_USER})[)）\]】]"
    rf"|\n{_MARKUP}(?:{_WEAK_HELPER}|you|me|你|我){_COLON}|\b(?:{_HELPER}|{_USER})[:：]\s*$"
    r"|(?:^|\n)A[:：][^\n]*\nB[:：]"
    rf"|{_LINE}{_USER}['’]s (?:next )?(?:message|reply|response){_COLON}",
    re.IGNORECASE,
)
"""A name at the start of a line, right after a sentence, or with nothing after it.

A name that people write too counts from the second line on: that of the first line may be removed already.
"""
_ANY_NAME = {
    side: re.compile(rf"(?<![^\W\d_a-zA-Z])(?<![a-zA-Z]){names}{_COLON}", re.IGNORECASE)
    for side, names in (("helper", rf"(?:{_HELPER}|{_WEAK_HELPER})"), ("user", rf"(?:{_USER}|me|you|我)"))
}
_BRACKETED = re.compile(
    r"\[/?(?:user|assistant|system|human|bot|ai|helper|用户|助手)\]|【(?:用户|助手|支持者|系统)】",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:^|\n)[*_\s]{0,4}([^\s:：*_\d][^\n:：*_]{0,11})[*_]{0,2}\s?[:：]")

_CONTROL = re.compile(
    r"<[|｜][^<>\n]{0,40}[|｜]>|<[|｜]\w|\w[|｜]>|"
    r"</?s>|\[/?s\]|</?(?:bos|eos|pad|unk|sep|cls|mask|sop|eop|eod|eot|eom|end|stop|im_start|im_end|turn|"
    r"endoftext)>|"
    r"<(?:start|end)_of_\w{1,20}>|<(?:unused|reserved|extra_id)_?\d{1,4}>|"
    r"</?(?:user|assistant|system|human|bot|ai|message|reply|response|answer|output|tool_call|"
    r"tool_response)>|"
    r"\[/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG|gMASK)\]|<</?SYS>>|"
    r"\[(?:EOS|BOS|EOT|END|STOP|DONE|PAD|UNK|SEP|CLS|MASK)\]|#{3,}|(?:^|\n)#{1,2} ?\S|(?:^|"
    r"\n)-{3,}\s*(?:\n|$)|"
    r"(?:^|\n)={3,}|\bstop sequence\b|"
    r"[<\[({]\s?(?:(?:the )?end|stop|done|terminate|task_?done)"
    r"(?:[ _](?:of[ _])?(?:the[ _])?(?:conversation|dialogue|dialog|chat|talk|turn|message|reply|response|"
    r"scene|story|session|simulation|role-?play))?\s?[>\])}]|"
    r"\b(?-i:TERMINATE|END_OF_[A-Z]{3,}|END_[A-Z]{4,})\b|"
    r"[(\[]note\s?[:：]|\(OOC\b|(?:^|\n)OOC\s?[:：]",
    re.IGNORECASE,
)
"""Marks of chat templates and the stop words of prompts."""

_MODEL = (
    r"(?:(?:large |helpful |virtual |digital |conversational |text-based |friendly |supportive |mere |"
    r"simple )*"
    r"(?:(?:ai|a\.i\.|artificial intelligence|machine learning)"
    r"(?:[- ](?:powered )?(?:language |chat |based )*(?:model|assistant|chatbot|bot|system|program|"
    r"companion|tool|"
    r"agent|entity))?|language model|llm|chatbot|virtual assistant|computer program))"
)
_NO_TRADE = (
    r"(?=[,.;:!?)…]|$| (?:i|and|so|but|that|who|which|designed|trained|created|made|built|developed|my)\b)"
)
_CANNOT = (
    r"(?: can(?:'t|not| not)| won't| will not|(?: am|'m) (?:unable|not able|not allowed|not programmed) to)"
)
_TASK = (
    r"(?:assist(?= you| with| in|[.,!?]|$)|help (?:you )?with (?:that|this|your|such)|help you (?:with|"
    r"write|create)|comply|fulfill?|"
    r"continue (?:with )?(?:this|the|that) (?:request|role|scenario|story|simulation|exercise)|"
    r"(?:provide|generate|create|write|produce) (?:(?:you|this|that|such|any|the|an?|further)\b ?"
    r"(?:[\w-]+ ){0,3})?(?:content|text|messages?|repl(?:y|ies)|responses?|advice|information|material|"
    r"dialogues?)\b|(?:provide|generate|produce) (?:this|that|such)\b|"
    r"(?:provide|write|create) (?:medical|professional)|"
    r"(?:engage (?:in|with)|participate in) (?:this|that|such|any|role|the (?:conversation|role|scenario))|"
    r"role-?play|"
    r"pretend to be(?: (?:an?|the|your|this|that|someone|somebody|human|[a-z]+ who)\b|[.!]?$)|"
    r"act as (?:an?|the|this|that|your)\b|take on (?:this|that|the|an?) (?:role|persona|character|identity)|"
    r"(?:simulate|impersonate|portray|embody)|"
    r"play (?:this|that|the|a) (?:role|character|part|person|user)|offer (?:medical|professional))"
)
_ENGLISH = (
    rf"\b(?:as|being|since i'm|because i'm)(?: an?| your| the| only an?)? {_MODEL}{_NO_TRADE}",
    rf"\bi(?:'m| am)(?: just| only| actually| merely| not a (?:human|"
    rf"person),? but)? an? {_MODEL}{_NO_TRADE}",
    r"\bi(?:'m| am| was)? (?:chatgpt|claude|gemini|qwen|deepseek|llama|gpt-\d)\b",
    r"\bi was (?:trained|created|developed|made|built|programmed) (?:by (?:openai|anthropic|google|meta|"
    r"alibaba|"
    r"deepseek|mistral|microsoft|a team)|on (?:a |large |vast |data)|to (?:be helpful|assist|help users|"
    r"provide))",
    r"\bmy (?:training data|knowledge cutoff|programming|guidelines|developers)\b",
    r"\bi (?:do not|don't) have (?:personal|real|human|actual|genuine) (?:feelings|emotions|"
    r"experiences?|opinions)",
    r"\bi (?:do not|don't) have (?:feelings|emotions|experiences) (?:or|and) (?:feelings|emotions|"
    r"experiences|"
    r"consciousness|opinions)",
    rf"\b(?:sorry|apologi[sz]e|apologies|unfortunately|"
    rf"regret)\b[^.!?]{{0,24}}\bi{_CANNOT}(?: \w+ly)?(?: {_TASK}|[.!]?$)",
    rf"\bsorry, but i{_CANNOT}(?: \w+ly)? (?:do|answer|discuss|support|talk about) (?:that|this)\b",
    rf"(?:^|[.!?] )(?:no, |i(?:'m| am) afraid )?i{_CANNOT}(?: \w+ly)? {_TASK}",
    r"\b(?:break|breaking|out of|stay in|staying in|remain in) character\b",
    r"\b(?:i|my) (?:\S+ ){0,4}role-?play(?:ing)? (?:as|this|that|the|a|scenario|exercise|request)\b",
    r"\bin (?:my|this|the) role as the (?:user|person|character|actor)\b",
    r"(?:^|[.!?,] )(?:so |and )?how (?:can|may|could) i (?:best )?(?:assist|help|support) you"
    r"(?: (?:today|tonight|with|feel|through|now|right now|further)\b|[.!?]|$)",
    r"\bnot comfortable (?:playing|with) (?:this|that|the) (?:role|character|scenario)\b",
    r"\banything else i can (?:help|assist) you with\b",
    r"^(?:sure|okay|ok|certainly|of course|absolutely)[,!.:]* here(?:'s| is| are)\b",
    r"\bhere(?:'s| is) (?:a|the|my|another|your) (?:possible |new |revised |rewritten |short |next |"
    r"user's )*"
    r"(?:message|draft|response|reply|version)\b(?: from| as| that| for| without)?[^.!?]{0,40}:",
)
_CHINESE_MODEL = (
    r"(?:人工智能|ai|大?语言模型|大模型|智能体|(?:ai|人工智能|智能|虚拟|聊天)(?:语言)?(?:助手|助理|模型|"
    r"机器人|程序|系统)|"
    r"聊天机器人|虚拟助手)"
)
_CHINESE_NO_TRADE = (
    r"(?!的?(?:研究|工程|从业|专业|行业|公司|创业|产品|领域|开发|训练师|方向|爱好|用户|学|老师|程序员))"
)
_CHINESE_CANNOT = r"(?:我)?(?:暂时|恐怕|也|还|真的)?(?:无法|不能|没办法|没法|不可以|不会)(?:继续)?"
_CHINESE_TASK = (
    r"(?:协助|帮助您|帮您|为您|为你提供|提供(?:这|该|此|相关|任何|医疗|专业)|满足(?:你|您|这|该)|"
    r"(?:完成|处理|执行|回应|回答)(?:你|您|这|该)的?(?:个|项)?(?:请求|要求|问题)|扮演|角色扮演|"
    r"参与(?:这|该|角色)|"
    r"生成|撰写|按照(?:你|您)的要求)"
)
_CHINESE = (
    rf"(?:作为|身为)(?:您的|你的)?(?:一个|一名|一款|一位|个)?(?:大型|专业的?|"
    rf"智能的?)?{_CHINESE_MODEL}{_CHINESE_NO_TRADE}",
    rf"我(?:只|仅仅|只不过|其实|并不是人,?而)?是(?:由\w{{1,12}})?(?:一个|一名|一款|一位|"
    rf"个)?{_CHINESE_MODEL}{_CHINESE_NO_TRADE}",
    r"我没有(?:真实的?|个人的?|人类的?|真正的?)(?:情感|感情|感受|情绪|经历|体验|意识)",
    rf"(?:抱歉|对不起|不好意思|很遗憾)[,。 ]{{0,2}}(?:但是?|不过)?{_CHINESE_CANNOT}{_CHINESE_TASK}",
    rf"(?:^|[,。!?])我?{_CHINESE_CANNOT}{_CHINESE_TASK}",
    r"我是(?:由)?(?:openai|chatgpt|通义|千问|文心|豆包|deepseek|深度求索|百度|阿里|谷歌)",
    r"(?:openai|阿里\w{0,4}|百度|深度求索|谷歌|字节跳动|智谱)(?:开发|训练|研发|打造|创建)的",
    r"有什么(?:我)?(?:可以|能)(?:帮|为)(?:助)?(?:您|你)(?:的|做的|效劳|服务)?[吗?。]",
    r"^(?:好的|当然|没问题)[,!。:]*(?:以下|下面|这)(?:就)?是",
)
_AS_MODEL = re.compile("|".join((*_ENGLISH, *_CHINESE)))
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'") | dict.fromkeys("*_", ""))

_SIMPLIFIED = str.maketrans(
    "個語無協為沒實體機歡遺對繼續這請戲過專業聊擬虛問題開發訓練創學習數據應處執絕",
    "个语无协为没实体机欢遗对继续这请戏过专业聊拟虚问题开发训练创学习数据应处执绝",
)
"""Traditional characters of the Chinese patterns, to write these once."""


def is_script(message: str, persona: str = "") -> bool:
    """Whether a message names who speaks, as the script of a dialogue does.

    Args:
        message: the message, without a label of the user at its start.
        persona: who the user is; a label that is a name in it counts too.
    """
    if _SCRIPT.search(message) or _BRACKETED.search(message):
        return True
    if all(pattern.search(message) for pattern in _ANY_NAME.values()):
        return True
    return any(_is_name(label.strip(), persona) for label in _LABEL.findall(message))


def has_control_mark(message: str) -> bool:
    """Whether a message contains a mark of a chat template, of a thought, or a stop word of a prompt."""
    if MARK.search(folded(message)):
        return True
    return any(marks.search(message) for marks in (_CONTROL, KNOWN.opening, KNOWN.closing))


def speaks_as_model(message: str) -> bool:
    """Whether a message refuses the role, or speaks as a model or as its assistant."""
    plain = unicodedata.normalize("NFKC", message).translate(_APOSTROPHES).translate(_SIMPLIFIED)
    plain = plain.replace("人工智慧", "人工智能").casefold()
    return _AS_MODEL.search(" ".join(plain.split())) is not None


def _is_name(label: str, persona: str) -> bool:
    """Whether a label is a name in the persona: a capitalized word, or the Chinese word that opens it."""
    if not label or not label[0].isalpha():
        return False
    if label.isascii():
        is_word = re.search(rf"\b{re.escape(label)}\b", persona) is not None
        return label.istitle() and is_word and not re.search(rf"\b{re.escape(label.lower())}\b", persona)
    return len(label) <= 4 and persona.lstrip("你是我叫名字：:，, ").startswith(label)
