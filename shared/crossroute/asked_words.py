"""The words by which a text asks for an answer of some length, for `crossroute.asked`.

All are in lower case. Alphabets: English, German, French, Spanish, Portuguese, Italian; beside them
Japanese and Chinese, whose words no spaces part.
"""

from __future__ import annotations

import re

BARE_TOKENS = 3.0
"""Of "yes", a letter, a number, a name."""
BRIEF_TOKENS = 60.0
DETAILED_TOKENS = 600.0
ESSAY_TOKENS = 900.0
ITEM_TOKENS = 15.0
KEY_TOKENS = 12.0
"""Of a key and its value in JSON."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORD, CHARACTER, LINE, SENTENCE, PARAGRAPH = 1.35, 0.25, 12.0, 25.0, 110.0

UNITS: dict[float, tuple[str, ...]] = {
    WORD: ("word", "wort", "wört", "mots", "mot ", "palabra", "palavra", "parol"),
    CHARACTER: ("character", "chars", "zeichen", "caract", "caratter"),
    1.0: ("token",),
    LINE: ("lines", "line ", "line.", "zeile", "ligne", "línea", "linha", "righe"),
    SENTENCE: ("sentence", "satz", "sätze", "phrase", "frase", "frasi", "oracion", "sentença"),
    PARAGRAPH: ("paragra", "absatz", "absätz", "párrafo", "parágrafo"),
    650.0: ("page", "seite", "página", "pagin"),
    ITEM_TOKENS: (
        *("bullet", "item", "example", "idea", "reason", "tips", "facts", "question", "headline"),
        *("key point", "main point", "suggestion", "synonym", "keyword", "hashtag", "steps"),
        *("stichpunkt", "stichwort", "stichwört", "beispiel", "ideen", "gründe", "fragen", "tipps"),
        *("puces", "exemple", "idée", "raisons", "ejemplo", "razones", "pregunta"),
        *("exemplo", "ideia", "motivo", "tópico", "pergunta", "esemp", "idee", "motivi", "domand"),
        *("puntos", "pontos", "punti "),
    ),
}
"""How the names of units begin, by the tokens of one."""

NUMBERS: dict[str, float] = {
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
FACTORS = _words("single hundred thousand hundert tausend cents cent mille mil cem cien")
"""Numbers that multiply the number before them."""
ARTICLES = _words("a an ein eine einem einen einer un une una uno um uma")
DIGITS = re.compile(r"(\d{1,3}(?:[,.'\u2019]\d{3})+|\d{1,6}(?:[.,]\d)?)(k?)")
RANGES = _words("to and or bis und à et a y e")
RANGE_BEGINS = _words("between from zwischen von entre de da")
DASHES = re.compile(r"[-\u2013\u2014]")
ENDS = re.compile(r"(?<!max)(?<!min)(?<!ca)(?<!approx)[.!?;](?= |$)")
"""Of sentences, in a text whose spaces are single."""

BETWEEN = _words(
    "short long full complete concise simple brief separate clear bullet distinct different "
    "kurzen kurze kurzer vollständigen courtes courts cortas cortos curtas brevi good "
    "detailed engaging new"
)
"""Words that may stand between a number and its unit, or before the number."""

NOT_ASKED = _words(
    "the these those this that my his her its their our following first last next previous above "
    "given between which die der den das diese dieser meine les ces mes los las estos estas mis os "
    "estes i gli le questi queste ersten letzten premiers primeras primeros all any some "
    "entre zwischen"
)
"""Before a number: what is counted is there already."""

STATES = _words(
    "has have had contains contain contained containing is are was were be being read wrote used "
    "exceed exceeds hat hatte enthält ist sind sein haben überschreiten a ont contient compte "
    "est sont dépasser tiene tienen contiene es son ser tener superar tem têm contém é são ter ha "
    "hanno è sono essere avere superare"
)
MODALS = _words(
    "should must shall need needs may limit length maximum max minimum soll sollen sollte muss "
    "darf doit devrait debe debería deve dovrebbe please bitte"
)
"""What makes a demand of a statement: "it should have 300 words"."""

PARTS = _words(
    "each every per apiece pro je jeweils jede jeder jedes chaque chacun chacune cada ogni "
    "ciascuno ciascuna"
)

ASKS = re.compile(
    r"(?:(?:write|writing|answer|respond|reply|explain|describe|summari[sz]e|give|list|name|"
    r"generate|create|compose|draft|provide|tell|suggest|propose|return|output|print|use|want|"
    r"need|keep|limit|outline|brainstorm|condense|shorten|translate)\b|"
    r"schreib|verfass|antwort|erklär|beschreib|fasse?\b|zusammen|nenne|gib\b|erstell|formulier|"
    r"écri|rédige|répon|expliqu|résum|donne|cite\b|décri|fais\b|"
    r"escrib|redact|respond[ae]\b|contesta|explica|describa|dame\b|enumera|nombra|haz\b|"
    r"escrev|redij|resum[ae]\b|descreva|dê\b|faça|liste|"
    r"scriv|rispo|spieg|riassum|descriv|elenca|dammi|fornisc|componi\b)"
)
"""How the words begin that ask for something."""

FILLERS = _words(
    "me us him a an your with in mir uns moi nous mi nos ein eine einen un une una um uma "
    "auf noch also only just"
)
IN = _words("in within en em auf into")
OF = _words("of with using to mit von aus über avec de con com di da par por")
OR_LESS = _words("less fewer more shorter weniger mehr moins plus menos más mais meno più")
ALONE = _words("on about over max maximum minimum please or über sur sobre su bitte")
"""After a size with which a sentence begins: "500 words on bees"."""
AFTER = _words(
    "max maximum minimum min tops limit only total maximal höchstens mindestens máximo massimo"
)

BOUND = re.compile(
    r"(?:^|[ ('])(?:at (?:most|least)|at the most|up to|(?:no|not) (?:more|less|fewer|longer) than|"
    r"(?:less|fewer|more) than|max(?:imum|imal|\.)?(?: of)?|min(?:imum|\.)?(?: of)?|under|exactly|"
    r"about|around|approximately|approx\.|roughly|ca\.|circa|limit(?:ed)? (?:of|to)|over|"
    r"höchstens|mindestens|bis zu|nicht mehr als|weniger als|mehr als|genau|etwa|ungefähr|rund|"
    r"au (?:plus|moins|maximum)(?: de)?|maximum de|environ|jusqu'à|(?:moins|plus|pas plus) de|"
    r"como máximo|(?:al|por lo|pelo) menos|(?:no )?máximo(?: de)?|hasta|(?:menos|más|mais) de|"
    r"alrededor de|aproximadamente|unas|unos|até|cerca de|"
    r"al massimo|almeno|massimo(?: di)?|fino a|(?:meno|più) di|esattamente|exacta?mente|"
    r"exatamente|exactement)$"
)

PROGRAM = re.compile(
    r"(?:function|method|program|script|class|regex|expression|query|algorithm|validator|"
    r"funktion|fonction|función|função|funzione|programa)\b"
)
"""Sizes after such words are of what a program handles: "a function that joins two words"."""

LISTS = (
    *(
        "list of ",
        "list ",
        "name ",
        "give me ",
        "suggest ",
        "brainstorm ",
        "generate ",
        "nenne ",
        "liste ",
    ),
    *("donne-moi ", "cite ", "dame ", "enumera ", "nombra ", "elenca ", "dammi "),
)
IMPERATIVE_AFTER = _words("and then please to you also und dann bitte et puis y por e poi")
LENGTHS = _words("length format limit länge longueur extensión lunghezza")
LIST_FILLERS = _words(
    "the me us top best at least most up to about exactly mir uns von de des les los las die "
    "os as di i le gli"
)

YES_OR_NO = (
    *("yes or no", "yes/no", "'yes' or 'no'", "true or false", "true/false"),
    *("ja oder nein", "wahr oder falsch", "oui ou non", "vrai ou faux", "sí o no"),
    *("verdadero o falso", "sim ou não", "verdadeiro ou falso", "sì o no", "vero o falso"),
)
CJK_YES_OR_NO = (
    *("はいかいいえ", "「はい」か「いいえ」", "はい/いいえ"),
    *("是或否", "是还是否", "对或错"),
)
THING = (
    r"(?:number|letter|word|name|answer|option|digit|integer|label|choice|value|date|category|"
    r"index|id|boolean|year|result)"
)
ONLY = re.compile(
    r"\b(?:only|just|nothing but|solely|simply)"
    r"(?: (?:with|give|return|output|write|print|state|say))?"
    r"(?: (?:the|a|an|one|your))?"
    r"(?: (?:single|final|correct|exact|right|one|numerical|numeric|resulting|answer)){0,2} "
    rf"{THING}\b(?! (?:is|are|was|can|will|that|in|to|between|for)\b)"
    r"(?! of (?!the (?:correct|right|answer)))"
    rf"|\b(?:answer|reply|respond)(?: only| just)? with (?:only |just )?(?:the|a|one) "
    rf"(?:single |final |correct )?{THING}\b"
    rf"|\b{THING} only(?=[.,;:)!]|\s*$)"
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
ONLY_CUES = (
    *("only", "just ", "nothing but", "solely", "simply", "answer with ", "reply with "),
    *("respond with ", "a single letter", "one letter", "nur ", "seulement", "uniquement"),
    *("juste ", "solo ", "sólo ", "solamente", "únicamente", "só ", "apenas ", "somente "),
    *("soltanto ",),
)
CJK_ONLY = ("だけ", "のみ", "只", "仅")
EXPLAINED = re.compile(
    r"(?:\b(?:and|then|also|briefly|please|und|et|puis|y|e|poi)|,) ?(?:\w+ ){0,2}"
    r"(?:explain|justify|why|reason|begründ|erklär|expliqu|justifi|explica|justifica|spiega)"
    r"|理由|説明|解释"
)
"""After "yes or no": the answer goes on."""

JSON = re.compile(
    r"(?:only|just|strictly|nothing but|nur|uniquement|seulement|solo|apenas|somente)"
    r"[^.!?;]{0,40}\bjson\b|\bjson\b[^.!?;]{0,20}(?:only|nothing else|no (?:other|extra))"
)
KEY = re.compile(r'"([A-Za-z_][\w ]{0,40})"\s{0,3}:')
REASONING = re.compile(r"reason|explan|rational|thought|analysis|essay|content|text")

BRIEF = (
    *("briefly", "be brief", "in brief", "a brief ", "concise", "short answer", "short response"),
    *("keep it short", "a short summary", "tl;dr", "one-liner", "one liner", "succinct"),
    *("kurz ", "kurz.", "kurze antwort", "knapp", "stichwortartig", "brièvement", "en bref"),
    *("réponse courte", "sois bref", "soyez bref", "brevemente", "en breve", "respuesta corta"),
    *("resposta curta", "seja breve", "sé breve", "sii breve", "risposta breve", "sinteticamente"),
)
CJK_BRIEF = ("簡潔", "手短", "短く", "一言で", "简短", "简洁", "简要", "简单回答")
DETAILED = (
    *("in detail", "detailed ", "step by step", "step-by-step", "in depth", "in-depth"),
    *("ausführlich", "im detail", "detailliert", "schritt für schritt", "en détail", "détaillé"),
    *("étape par étape", "en detalle", "detallad", "paso a paso", "em detalhe", "detalhad"),
    *("passo a passo", "in dettaglio", "dettagliat"),
)
CJK_DETAILED = ("詳しく", "詳細に", "ステップバイステップ", "ステップごと", "详细", "一步一步")
THOROUGH = (
    *("comprehensive", "thorough", "exhaustive", "an essay", "umfassend", "einen aufsatz"),
    *("un essai", "une dissertation", "exhaustiv", "un ensayo", "uma redação", "um ensaio"),
    *("un saggio", "un tema "),
)

ADJECTIVES = _words("comprehensive thorough exhaustive detailed detailliert brief")
ANSWERS = re.compile(
    r"(?:answer|response|reply|expl|overview|guide|report|essay|summar|analys|descri|review|"
    r"discussion|article|tutorial|plan|antwort|erkl|bericht|intro)"
)
"""What is asked for where such an adjective stands before it."""

# Japanese and Chinese

CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
CJK_SIZE = re.compile(
    r"(\d{1,6}|[一二三四五六七八九十百千两]{1,5}) ?"
    r"(文字|字|ワード|単語|词|トークン|文(?=[で以程])|句话?|行|段落?|ページ|页|頁|[つ個个点條条項项])"
    r"(.{0,14})"
)
CJK_UNITS = {"文字": 1.0, "字": 1.0, "ワード": WORD, "単語": 2.0, "词": 2.0, "トークン": 1.0}
CJK_UNITS |= {"文": 40.0, "句": 30.0, "句话": 30.0, "行": LINE * 2, "段": 120.0, "段落": 120.0}
CJK_UNITS |= dict.fromkeys(("ページ", "页", "頁"), 650.0)
CJK_UNITS |= dict.fromkeys("つ個个点條条項项", ITEM_TOKENS * 2)
CJK_ASKED_AFTER = re.compile(
    r"(?:以内|以上|以下|程度|ほど|くらい|ぐらい|前後|左右|内|まで|"
    r"で(?!す|あ)|(?:の|的)\S{0,8}(?:書|写|作))"
)
CJK_ASKED_BEFORE = re.compile(r"(?:[用写写寫答以在为]|总结|概括|不超过|至少|最多|书写)\S{0,6}$")
CJK_LISTED_AFTER = re.compile(
    r".{0,10}(?:挙げ|教え|書い|書け|提案|考え|作っ|列|答え|示し|述べ|リスト|紹介|ください|下さい)"
)
CJK_LISTED_BEFORE = re.compile(r"(?:列出|给出|列举|举出?|提供|写出?|说出|推荐)\S{0,2}$")
CJK_PARTS = frozenset("各每")
CJK_DIGITS = {digit: value for value, digit in enumerate("一二三四五六七八九", 1)} | {"两": 2}
CJK_TENS = {"十": 10, "百": 100, "千": 1000}
