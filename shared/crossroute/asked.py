"""The length of answer that a text asks for: "in one word", "a 3,000-word essay", "yes or no"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

HEAD_CHARS, TAIL_CHARS = 2_000, 2_000
"""How much of a long text is read: what is asked stands at its beginning or at its end."""

LEAST_TOKENS, MOST_TOKENS = 1.0, 50_000.0

BARE_TOKENS = 3.0
"""Of "yes", a letter, a number, a name."""
BRIEF_TOKENS = 60.0
DETAILED_TOKENS = 600.0
ESSAY_TOKENS = 900.0
ITEM_TOKENS = 15.0
KEY_TOKENS = 12.0
"""Of a key and its value in JSON."""

MOST_KEYS = 20
"""JSON of more keys is more likely what the text is about than what it asks for."""

FEWEST_CHARACTERS = 40
"""A limit of fewer characters is one of passwords and names, not of answers."""

_WINDOW = 120
"""Characters before a size in which the words stand that ask for it."""

_MOST_MENTIONS = 20
"""How often the same unit is looked at, lest a text of nothing else take long."""

_WORD, _CHARACTER, _LINE, _SENTENCE, _PARAGRAPH = 1.35, 0.25, 12.0, 25.0, 110.0

_UNITS: dict[float, tuple[str, ...]] = {
    _WORD: ("word", "wort", "wört", "mots", "mot ", "palabra", "palavra", "parol"),
    _CHARACTER: ("character", "chars", "zeichen", "caract", "caratter"),
    1.0: ("token",),
    _LINE: ("line", "zeile", "ligne", "línea", "linha", "righe"),
    _SENTENCE: ("sentence", "satz", "sätze", "phrase", "frase", "frasi", "oracion", "sentença"),
    _PARAGRAPH: ("paragra", "absatz", "absätz", "párrafo", "parágrafo"),
    650.0: ("page", "seite", "página", "pagin"),
    ITEM_TOKENS: (
        *("bullet", "item", "example", "idea", "reason", "tips", "fact", "question", "headline"),
        *("key point", "main point", "suggestion", "synonym", "keyword", "hashtag", "steps"),
        *("stichpunkt", "stichwort", "stichwört", "beispiel", "ideen", "gründe", "fragen", "tipps"),
        *("puces", "exemple", "idée", "raisons", "ejemplo", "razones", "pregunta"),
        *("exemplo", "ideia", "motivo", "tópico", "pergunta", "esemp", "idee", "motivi", "domand"),
    ),
}
"""How the names of units begin, by the tokens of one."""

_NUMBERS: dict[str, float] = {
    word: value
    for value, words in {
        1: "a an one single ein eine einem einen einer un une una uno um uma",
        2: "two couple zwei deux dos dois duas due",
        3: "three drei trois tres três tre",
        4: "four vier quatre cuatro quatro quattro",
        5: "five fünf cinq cinco cinque",
        6: "six sechs seis sei",
        7: "seven sieben sept siete sete sette",
        8: "eight acht huit ocho oito otto",
        9: "nine neun neuf nueve nove",
        10: "ten zehn dix diez dez dieci",
        11: "eleven elf onze once undici",
        12: "twelve dozen zwölf douze doce doze dodici",
        13: "thirteen dreizehn treize trece treze tredici",
        14: "fourteen vierzehn quatorze catorce catorze quattordici",
        15: "fifteen fünfzehn quinze quince quindici",
        16: "sixteen sechzehn seize dieciséis dezesseis sedici",
        17: "seventeen siebzehn dix-sept diecisiete dezessete diciassette",
        18: "eighteen achtzehn dix-huit dieciocho dezoito diciotto",
        19: "nineteen neunzehn dix-neuf diecinueve dezenove diciannove",
        20: "twenty zwanzig vingt veinte vinte venti",
        30: "thirty dreißig trente treinta trinta trenta",
        50: "fifty fünfzig cinquante cincuenta cinquenta cinquanta",
        100: "hundred hundert cent cien cem cento",
        1000: "thousand tausend mille mil",
    }.items()
    for word in words.split()
}
_ARTICLES = frozenset("a an ein eine einem einen einer un une una uno um uma".split())
_DIGITS = re.compile(r"(\d{1,3}(?:[,.'’]\d{3})+|\d{1,6}(?:[.,]\d)?)(k?)")
_DASHES = re.compile(r"[-–—]")
_ENDS = re.compile(r"(?<!max)(?<!min)(?<!ca)(?<!approx)[.!?;](?= |$)")
"""Of sentences, in a text whose spaces are single."""

_BETWEEN = frozenset(
    "short long full complete concise simple brief single separate clear bullet distinct different "
    "kurzen kurze kurzer vollständigen courtes courts cortas cortos curtas brevi good "
    "detailed engaging new".split()
)
"""Words that may stand between a number and its unit, or before the number."""

_NOT_ASKED = frozenset(
    "the these those this that my his her its their our following first last next previous above "
    "given between which die der den das diese dieser meine les ces mes los las estos estas mis os "
    "estes i gli le questi queste ersten letzten premiers primeras primeros all any some "
    "entre zwischen".split()
)
"""Before a number: what is counted is there already."""

_STATES = frozenset(
    "has have had contains contain contained containing is are was were be being read wrote used "
    "exceed exceeds hat haben hatte enthält ist sind sein haben überschreiten a ont contient compte "
    "est sont dépasser tiene tienen contiene es son ser tener superar tem têm contém é são ter ha "
    "hanno è sono essere avere superare".split()
)
_MODALS = frozenset(
    "should must shall need needs may limit length maximum max minimum soll sollen sollte muss "
    "darf doit devrait debe debería deve dovrebbe please bitte".split()
)
"""What makes a demand of a statement: "it should have 300 words"."""

_PARTS = frozenset(
    "each every per apiece pro je jeweils jede jeder jedes chaque chacun chacune cada ogni "
    "ciascuno ciascuna".split()
)

_ASKS = re.compile(
    r"(?:write|writing|answer|respon[ds]|reply|explain|describe|summari|give|list|name|generat|"
    r"creat|compos|draft|produc|provide|make|tell|suggest|propos|say|return|output|print|state|use|"
    r"want|need|keep|limit|outline|brainstorm|condense|shorten|translat|"
    r"schreib|verfass|antwort|erklär|beschreib|fass|zusammen|nenn|gib|geb|erstell|formulier|"
    r"écri|rédige|répon|expliqu|résum|donne|cite|décri|fais|"
    r"escrib|redact|contest|explic|descr[ei]|dame|enumera|nombra|haz|"
    r"escrev|redij|resum|dê|faça|liste|scriv|rispo|spieg|riassum|elenc|dammi|fornisc|scrit|compon)"
)
"""How the words begin that ask for something."""

_FILLERS = frozenset(
    "me us him a an your with in mir uns moi nous mi nos ein eine einen un une una um uma "
    "auf noch also only just".split()
)
_IN = frozenset("in within en em auf into".split())
_OF = frozenset("of with using to mit von aus über avec de con com di da par por".split())
_ALONE = frozenset("on about over max maximum minimum please or über sur sobre su bitte".split())
"""After a size with which a sentence begins: "500 words on bees"."""
_AFTER = frozenset(
    "max maximum minimum min tops limit only or total maximal höchstens mindestens oder máximo "
    "massimo".split()
)

_BOUND = re.compile(
    r"(?:^| )(?:at (?:most|least)|at the most|up to|(?:no|not) (?:more|less|fewer|longer) than|"
    r"(?:less|fewer|more) than|max(?:imum|imal|\.)?(?: of)?|min(?:imum|\.)?(?: of)?|under|exactly|"
    r"about|around|approximately|approx\.|roughly|ca\.|circa|limit(?:ed)? (?:of|to)|over|"
    r"höchstens|mindestens|bis zu|nicht mehr als|weniger als|mehr als|genau|etwa|ungefähr|rund|"
    r"au (?:plus|moins|maximum)(?: de)?|maximum de|environ|jusqu'à|(?:moins|plus|pas plus) de|"
    r"como máximo|(?:al|por lo|pelo) menos|(?:no )?máximo(?: de)?|hasta|(?:menos|más|mais) de|"
    r"alrededor de|aproximadamente|unas|unos|até|cerca de|"
    r"al massimo|almeno|massimo(?: di)?|fino a|(?:meno|più) di|esattamente|exacta?mente|"
    r"exatamente|exactement)$"
)

_PROGRAM = re.compile(
    r"(?:function|method|program|script|class|regex|expression|query|algorithm|validator|"
    r"funktion|fonction|función|função|funzione|programa)\b"
)
"""Sizes after such words are of what a program handles: "a function that joins two words"."""

_LISTS = (
    *("list", "name ", "give me ", "suggest ", "brainstorm ", "generate ", "nenne ", "liste "),
    *("donne-moi ", "cite ", "dame ", "enumera ", "nombra ", "cite ", "elenca ", "dammi "),
)
_LIST_FILLERS = frozenset(
    "of the me us top best at least most up to about exactly mir uns von de des les los las die "
    "os as di i le gli".split()
)

_YES_OR_NO = (
    *("yes or no", "yes/no", "'yes' or 'no'", "true or false", "true/false"),
    *("ja oder nein", "wahr oder falsch", "oui ou non", "vrai ou faux", "sí o no"),
    *("verdadero o falso", "sim ou não", "verdadeiro ou falso", "sì o no", "vero o falso"),
    *("はいかいいえ", "「はい」か「いいえ」", "はい/いいえ", "是或否", "是还是否", "对或错"),
)
_THING = (
    r"(?:number|letter|word|name|answer|option|digit|integer|label|choice|value|date|category|"
    r"index|id|boolean|year|result)"
)
_ONLY = re.compile(
    r"\b(?:only|just|nothing but|solely|simply)"
    r"(?: (?:with|give|return|output|write|print|state|say))?"
    r"(?: (?:the|a|an|one|your))?"
    r"(?: (?:single|final|correct|exact|right|one|numerical|numeric|resulting|answer)){0,2} "
    rf"{_THING}\b(?! (?:is|are|was|can|will|that|in|to|between|for)\b| of (?!the (?:corr|right|ans)))"
    rf"|\b(?:answer|reply|respond)(?: only| just)? with (?:only |just )?(?:the|a|one) "
    rf"(?:single |final |correct )?{_THING}\b"
    rf"|\b{_THING} only(?=[.,;:)!]|\s*$)"
    r"|\b(?:a single|one) letter(?= answer|[.,;:)!]|\s*$)"
    r"|\bnur (?:mit )?(?:(?:de[rmn]|die|das|eine[rmn]?|ein) )?"
    r"(?:zahl|nummer|buchstaben?|wort|namen?|antwort|ergebnis)\b(?! (?:ist|sind)\b)"
    r"|\b(?:seulement|uniquement|juste)(?: par| avec)? (?:le |la |l'|un |une )?"
    r"(?:nombre|chiffre|lettre|mot|nom|réponse|résultat)\b(?! est\b)"
    r"|\b(?:solo|sólo|solamente|únicamente|só|apenas|somente|soltanto)(?: con| com)? "
    r"(?:el |la |il |lo |l'|o |a |una? |uma? )"
    r"(?:número|numero|letra|lettera|palabra|palavra|parola|nombre|nome|respuesta|resposta|"
    r"risposta|resultado|risultato)\b(?! (?:es|é|è)\b)"
    r"|(?:数字|番号|記号|単語|名前|答え|アルファベット)(?:だけ|のみ)"
    r"|[只仅](?:需|要|需要)?(?:回答|输出|给出|返回)(?:一个)?(?:数字|字母|单词|答案|选项|名字)"
)
_ONLY_CUES = (
    *("only", "just ", "nothing but", "solely", "simply", " with ", "letter", "nur ", "seulement"),
    *("uniquement", "juste ", "solo ", "sólo ", "solamente", "únicamente", "só ", "apenas "),
    *("somente ", "soltanto ", "だけ", "のみ", "只", "仅"),
)
_EXPLAINED = re.compile(
    r"(?:\b(?:and|then|also|briefly|please|und|et|puis|y|e|poi)|,) ?(?:\w+ ){0,2}"
    r"(?:explain|justify|why|reason|begründ|erklär|expliqu|justifi|explica|justifica|spiega)"
    r"|理由|説明|解释"
)
"""After "yes or no": the answer goes on."""

_JSON = re.compile(
    r"(?:only|just|strictly|nothing but|nur|uniquement|seulement|solo|apenas|somente)"
    r"[^.!?;]{0,40}\bjson\b|\bjson\b[^.!?;]{0,20}(?:only|nothing else|no (?:other|extra))"
)
_KEY = re.compile(r'"([A-Za-z_][\w ]{0,40})"\s{0,3}:')
_REASONING = re.compile(r"reason|explan|rational|thought|analysis|essay|content|text")

_BRIEF = (
    *("briefly", "be brief", "in brief", "a brief ", "concise", "short answer", "short response"),
    *("keep it short", "a short summary", "tl;dr", "one-liner", "one liner", "in short,", "succinct"),
    *(" kurz ", " kurz.", "kurze antwort", "knapp", "stichwortartig", "brièvement", "en bref"),
    *("réponse courte", "sois bref", "soyez bref", "brevemente", "en breve", "respuesta corta"),
    *("resposta curta", "seja breve", "sé breve", "sii breve", "risposta breve", "sinteticamente"),
    *("簡潔", "手短", "短く", "一言で", "简短", "简洁", "简要", "简单回答"),
)
_DETAILED = (
    *("in detail", "detailed ", "step by step", "step-by-step", "in depth", "in-depth"),
    *("ausführlich", "im detail", "detailliert", "schritt für schritt", "en détail", "détaillé"),
    *("étape par étape", "en detalle", "detallad", "paso a paso", "em detalhe", "detalhad"),
    *("passo a passo", "in dettaglio", "dettagliat", "詳しく", "詳細に", "ステップ", "详细", "一步一步"),
)
_THOROUGH = (
    *("comprehensive", "thorough", "exhaustive", "an essay", "umfassend", "einen aufsatz"),
    *("un essai", "une dissertation", "exhaustiv", "un ensayo", "uma redação", "um ensaio"),
    *("un saggio", "un tema", "小论文", "エッセイを書", "作文を書"),
)

_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
_CJK_SIZE = re.compile(
    r"(\d{1,6}|[一二三四五六七八九十百千两]{1,5}) ?"
    r"(文字|字|ワード|単語|词|トークン|文(?=[で以程])|句话?|行|段落?|ページ|页|頁|[つ個个点條条項项])"
    r"(.{0,14})"
)
_CJK_UNITS = {"文字": 1.0, "字": 1.0, "ワード": _WORD, "単語": 2.0, "词": 2.0, "トークン": 1.0}
_CJK_UNITS |= {"文": 40.0, "句": 30.0, "句话": 30.0, "行": _LINE * 2, "段": 120.0, "段落": 120.0}
_CJK_UNITS |= dict.fromkeys(("ページ", "页", "頁"), 650.0)
_CJK_UNITS |= dict.fromkeys("つ個个点條条項项", ITEM_TOKENS * 2)
_CJK_ASKED_AFTER = re.compile(
    r"(?:以内|以上|以下|程度|ほど|くらい|ぐらい|前後|左右|内|まで|で(?!す|あ)|(?:の|的)\S{0,8}(?:書|写|作))"
)
_CJK_ASKED_BEFORE = re.compile(r"(?:[用写写寫答以在为]|总结|概括|不超过|至少|最多|书写)\S{0,6}$")
_CJK_LISTED_AFTER = re.compile(r".{0,10}(?:挙げ|教え|書い|書け|提案|考え|作っ|列|答え|示し|述べ|リスト|紹介)")
_CJK_LISTED_BEFORE = re.compile(r"(?:列出|给出|列举|举出?|提供|写出?|说出|推荐)\S{0,2}$")
_CJK_DIGITS = {digit: value for value, digit in enumerate("一二三四五六七八九", 1)} | {"两": 2}
_CJK_TENS = {"十": 10, "百": 100, "千": 1000}


def asked_tokens(text: str) -> float | None:
    """How many tokens of visible answer a text asks for.

    Read in English, German, French, Spanish, Portuguese and Italian, the plainest forms in Japanese
    and Chinese too. In this order:

    1. A bare answer: "yes or no", "only the number", "just the answer"; unless it is to be
       explained, or thought through step by step.
    2. Sizes: a number with a unit ("two paragraphs", "3,000 words"), a list of so many, JSON and
       nothing else, by its keys. Of several the largest counts, which holds the others; one "each"
       or "per" something is a part and does not count.
    3. Leanings without a number: "briefly", "in detail", "an essay"; not where a text has both.

    A size counts only where it is asked for, not where it is told ("the novel has 3000 words").
    Within its sentence there has to be, right before it, a word that asks ("write 300 words"), "in",
    a bound ("at most", "about"), or "of" and "with" after a word that asks; right after it a bound
    ("200 words max"); or it is a form like "a 300-word story", stands in brackets, or begins the
    sentence.

    Args:
        text: What the model is asked; of a long text only the first and last 2,000 characters are
            read.

    Returns:
        From `LEAST_TOKENS` to `MOST_TOKENS`, rough; None where the text says nothing.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n\n{text[-TAIL_CHARS:]}"
    plain = _plain(text)
    leaning = _leaning(plain)
    sizes: list[float] = []
    bare = _bare(plain, is_reasoned=leaning is not None and leaning > BRIEF_TOKENS)
    if bare == BARE_TOKENS:
        return bare
    sizes += [*_sizes(plain), *_lists(plain), *_json(text, plain)]
    if not plain.isascii() and _CJK.search(plain):
        sizes += _cjk_sizes(plain)
    tokens = max(sizes, default=bare or leaning)
    return None if not tokens else min(max(tokens, LEAST_TOKENS), MOST_TOKENS)


def _plain(text: str) -> str:
    """A text in lower case, with single spaces, without marks; paragraphs end sentences."""
    text = text.lower().replace("\n\n", " ; ").replace("*", "").replace("`", "").replace('"', "")
    return f" {' '.join(text.replace('’', chr(39)).split())} "


def _mentions(text: str, name: str) -> Iterator[int]:
    at = text.find(name)
    for _ in range(_MOST_MENTIONS):
        if at < 0:
            return
        yield at
        at = text.find(name, at + len(name))


def _sentence_before(text: str, at: int) -> str:
    return _ENDS.split(text[max(at - _WINDOW, 0) : at])[-1].strip()


def _sentence_after(text: str, at: int) -> str:
    return _ENDS.split(text[at : at + _WINDOW], maxsplit=1)[0].strip()


def _sizes(text: str) -> Iterator[float]:
    for tokens, names in _UNITS.items():
        for name in names:
            if name in text:
                for at in _mentions(text, name):
                    size = _size(text, at, tokens)
                    if size is not None:
                        yield size


def _size(text: str, at: int, tokens: float) -> float | None:
    """The tokens of the unit at a place of a text as often as it is asked for there."""
    before = _sentence_before(text, at) if text[at - 1] in " -\u2011" else ""
    if not before:
        return None
    is_joined = before[-1] in "-\u2011"
    words = before.rstrip("-\u2011").split()
    while words and (words[-1] in _BETWEEN and words[-1] != "single"):
        words.pop()
    value, words, token = _last_number(words)
    if value is None:
        return None
    if token in _ARTICLES and tokens not in (_WORD, _SENTENCE, _PARAGRAPH):
        return None
    if tokens == _CHARACTER and value < FEWEST_CHARACTERS:
        return None
    # The rest of the unit's name is passed over.
    after = _sentence_after(text, at).partition(" ")
    end = after[0][-1:]
    is_asked = _is_asked(words, after[2].split()[:3], token, is_joined=is_joined, end=end)
    if tokens != _LINE and _PROGRAM.search(before):
        is_asked = False
    return value * tokens if is_asked else None


def _last_number(words: list[str]) -> tuple[float | None, list[str], str]:
    """The number at the end of words, the words before it, and its first word as it stands."""
    if not words:
        return None, words, ""
    value, token = _number(words[-1]), words[-1]
    words = words[:-1]
    if value is None:
        return None, words, token
    if words and (value >= 100 or token == "single") and (more := _number(words[-1])):  # noqa: S105
        # "five hundred", "a single", "3 000".
        token = words.pop()
        value = more * value if value in (1, 100, 1000) else value
    elif words and token.startswith("000") and words[-1].isdecimal():
        value = 1000 * float(words[-1][:3])
        token = words.pop()
    if len(words) > 1 and words[-1] in ("to", "bis", "à", "a", "or") and _number(words[-2]):
        # Of a range, the upper end.
        token = words[-2]
        words = words[:-2]
    return value, words, token


def _number(word: str) -> float | None:
    if word.startswith("(") or not word.isalnum():
        word = _DASHES.split(word.strip("(['~≈"))[-1]
    if (value := _NUMBERS.get(word)) is not None:
        return float(value)
    found = _DIGITS.fullmatch(word)
    if found is None:
        return None
    digits, thousands = found.groups()
    decimal = len(digits) > 1 and not digits[-2].isdecimal()
    number = float(digits.replace(",", ".")) if decimal else float(re.sub(r"\D", "", digits))
    return number * (1000 if thousands else 1)


def _is_asked(
    before: Sequence[str], after: Sequence[str], number: str, *, is_joined: bool, end: str
) -> bool:
    """Whether a size is asked for.

    Args:
        before: The words of its sentence before the number.
        after: The first words after the unit.
        number: The first word of the number.
        is_joined: Whether number and unit are one word, as in "300-word".
        end: The last character of the unit's word.
    """
    if _PARTS.intersection(before[-4:]) or _PARTS.intersection(
        word.strip(".,:)") for word in after[:2]
    ):
        return False
    following = after[0].strip(".,:)") if after else ""
    if not before:
        alone = not following or following in _ALONE or not end.isalpha()
        return alone and number not in _ARTICLES
    told = " ".join(before)
    bound = _BOUND.search(told)
    rest = told[: bound.start()].split() if bound else list(before)
    while rest and rest[-1] in _ARTICLES:
        rest.pop()
    last = rest[-1].strip(",(:") if rest else ""
    asks = any(_ASKS.match(word) for word in rest)
    demanded = bool(_MODALS.intersection(rest))
    if last in _STATES:
        return demanded
    if last in _NOT_ASKED:
        return False
    if bound or is_joined or number.startswith("(") or following in _AFTER or last in _IN:
        return True
    if last in _OF or (rest and rest[-1][-1] in ",:-"):
        return asks or last in ("length", "format", "länge", "longueur", "extensión", "lunghezza")
    while rest and (rest[-1] in _FILLERS or rest[-1] in _BETWEEN):
        rest.pop()
    return bool(rest) and bool(_ASKS.match(rest[-1]))


def _lists(text: str) -> Iterator[float]:
    """Of "a list of ten rivers" and "name three animals"."""
    for name in _LISTS:
        for at in _mentions(text, name):
            if text[at - 1].isalnum():
                continue
            words = _sentence_after(text, at + len(name))[:60].split()
            while words and words[0] in _LIST_FILLERS:
                words.pop(0)
            if len(words) < 2 or words[0] in _ARTICLES:
                continue
            is_size = any(words[1].startswith(unit) for units in _UNITS.values() for unit in units)
            value = _number(words[0])
            if value is not None and value > 1 and not is_size and words[1][0].isalpha():
                yield value * ITEM_TOKENS


def _bare(text: str, *, is_reasoned: bool) -> float | None:
    """Of a bare answer; more where it is explained."""
    for name in _YES_OR_NO:
        if name in text:
            at = text.index(name)
            before, after = _sentence_before(text, at), text[at + len(name) :]
            asked = not before or any(_ASKS.match(word) for word in before.split())
            asked = asked or not after.strip(" '.?!:;)）」。か") or after.lstrip("'")[:1] in "?):."
            asked = asked or before[-1] in "(:" or not before.isascii()
            if asked and not _PROGRAM.search(before):
                if is_reasoned:
                    return None
                return BRIEF_TOKENS if _EXPLAINED.search(after[:80]) else BARE_TOKENS
    if is_reasoned or not any(cue in text for cue in _ONLY_CUES):
        return None
    for found in _ONLY.finditer(text):
        before = _sentence_before(text, found.start())
        asks = any(_ASKS.match(word) for word in [*before.split(), *found[0].split()])
        ends = not _sentence_after(text, found.end()).strip(" )',:")
        if (asks or not before or ends or not found[0].isascii()) and not _PROGRAM.search(before):
            return BRIEF_TOKENS if _EXPLAINED.search(text[found.end() :][:80]) else BARE_TOKENS
    return None


def _json(text: str, plain: str) -> Iterator[float]:
    if "json" in plain and _JSON.search(plain):
        keys = set(_KEY.findall(text))
        if len(keys) <= MOST_KEYS and not any(_REASONING.search(key.lower()) for key in keys):
            yield KEY_TOKENS * max(len(keys), 3)


def _leaning(text: str) -> float | None:
    is_brief = any(name in text for name in _BRIEF)
    tokens = None
    if any(name in text for name in _THOROUGH):
        tokens = ESSAY_TOKENS
    elif any(name in text for name in _DETAILED):
        tokens = DETAILED_TOKENS
    if is_brief:
        return None if tokens else BRIEF_TOKENS
    return tokens


def _cjk_sizes(text: str) -> Iterator[float]:
    for found in _CJK_SIZE.finditer(text):
        number, unit, after = found.groups()
        before = text[max(found.start() - 12, 0) : found.start()]
        value = _cjk_number(number)
        tokens = _CJK_UNITS[unit]
        if tokens == 1.0 and value < FEWEST_CHARACTERS:
            continue
        if unit in "つ個个点條条項项":
            asked = _CJK_LISTED_AFTER.match(after) or _CJK_LISTED_BEFORE.search(before)
        else:
            asked = _CJK_ASKED_AFTER.match(after) or _CJK_ASKED_BEFORE.search(before)
        if asked and not _PARTS_CJK.intersection(before[-3:]):
            yield value * tokens


_PARTS_CJK = frozenset("各每")


def _cjk_number(number: str) -> float:
    if number.isdecimal():
        return float(number)
    total, digit = 0, 0
    for sign in number:
        if sign in _CJK_TENS:
            total += max(digit, 1) * _CJK_TENS[sign]
            digit = 0
        else:
            digit = _CJK_DIGITS[sign]
    return float(total + digit)
