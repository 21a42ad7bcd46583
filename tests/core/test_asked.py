"""How long an answer a text asks for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroute.asked import HEAD_CHARS, LEAST_TOKENS, MOST_TOKENS, TAIL_CHARS, asked_tokens
from crossroute.asked_words import (
    BARE_TOKENS,
    BRIEF_TOKENS,
    DETAILED_TOKENS,
    ESSAY_TOKENS,
    KEY_TOKENS,
)

SIZES = {
    1.35: ["Answer in one word: what is the capital of France?", "Antworte mit einem Wort."],
    25: [
        "Answer in one sentence.",
        "Use 'ephemeral' in a sentence.",
        "Antworte in einem Satz.",
        "Réponds en une phrase.",
        "Responde en una frase.",
        "Responda em uma frase.",
        "Rispondi in una frase.",
    ],
    45: [
        "Name three animals.",
        "Donne trois exemples.",
        "Write 3 bullet points, one sentence each.",
    ],
    50: [
        "Explain it in two sentences.",
        "Write a two-sentence summary",
        "A slogan, 200 characters.",
    ],
    75: [
        "Nenne fünf Tiere.",
        "What is gravity, in 3 sentences or less?",
        "Resume en cinco puntos.",
    ],
    67.5: ["Your answer must not exceed 50 words.", "In at most fifty words, what is a prion?"],
    100: ["Max. 100 tokens."],
    110: ["Write a single paragraph.", "Summarise the text in one paragraph."],
    135: ["Keep it under 100 words.", "höchstens 100 Wörter", "Say why (100 words)."],
    150: [
        "Give me a list of ten rivers.",
        "Summarise this in ten bullet points.",
        "例を5つ挙げてください。",
        "列出五个例子。",
    ],
    200: ["200字以内で答えてください。", "用200字概括"],
    220: [
        "Resuma em dois parágrafos.",
        "Résume en deux paragraphes.",
        "Resume en dos párrafos.",
        "Riassumi in due paragrafi.",
        "Fasse den Text in zwei Absätzen zusammen.",
    ],
    675: [
        "Write five hundred words about the sea.",
        "500 words on the French Revolution.",
        "Write 300-500 words about bees.",
        "Write between 300 and 500 words about bees.",
        "Écris un texte de 500 mots.",
        "Écris un texte d'environ 500 mots.",
        "Write an article (approx. 500 words) about bees.",
        "Escreva uma redação de 500 palavras.",
    ],
    3000: ["3000字の記事を書いてください。", "写一篇3000字的文章。"],
    3250: ["I need 5 pages on the Roman Empire.", "Please write a 5-page report."],
    4050: [
        "Write a 3,000-word essay on bees.",
        "The essay should have 3000 words.",
        "Write an essay: five paragraphs, 3 000 words in all.",
        "Schreibe einen Aufsatz mit 3.000 Wörtern.",
        "Escribe un ensayo de 3000 palabras.",
        "Scrivi un saggio di 3000 parole.",
    ],
    BARE_TOKENS: [
        "Answer yes or no: is 7 prime?",
        "Is 7 prime? Yes or no?",
        "Is 7 prime (yes/no)?",
        "True or false: the earth is flat.",
        "Reply with a single letter.",
        "What is 2 + 2? Only the number.",
        "What is 2 + 2? Just the answer, please.",
        "Respond with the letter of the correct option.",
        "Summarise 300 words of notes for yourself, then answer yes or no.",
        "Antworte mit ja oder nein.",
        "Antworte nur mit der Zahl.",
        "Réponds par oui ou non.",
        "Responde sí o no.",
        "Responda sim ou não.",
        "Rispondi sì o no.",
        "はいかいいえで答えてください。",
        "数字だけ答えてください。",
        "请回答是或否。",
    ],
    BRIEF_TOKENS: [
        "Briefly, why is the sky blue?",
        "Be concise.",
        "Answer yes or no, and explain why.",
        "Antworte kurz und klar.",
        "簡潔に述べて下さい。",
    ],
    DETAILED_TOKENS: [
        "Explain in detail how engines work.",
        "Solve it step by step, then give only the final answer.",
        "Erkläre das ausführlich.",
        "詳しく教えて。",
    ],
    ESSAY_TOKENS: ["Write an essay on love.", "Give me a comprehensive overview of Rome."],
    3 * KEY_TOKENS: ["Respond **only** with JSON."],
    4 * KEY_TOKENS: ['Only JSON: {"name": "", "age": 0, "town": "", "job": ""}'],
}


@pytest.mark.parametrize(("tokens", "text"), [(n, text) for n in SIZES for text in SIZES[n]])
def test_what_is_asked_for_is_read(tokens: float, text: str) -> None:
    assert asked_tokens(text) == pytest.approx(tokens)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Why is the sky blue?",
        "What is 17 * 23?",
        "The novel has 3000 words.",
        "I read a novel of 3000 words.",
        "The book has about 300 pages. Who wrote it?",
        "The 3000-word text above is about bees. By whom is it?",
        "How many words are there in the three paragraphs below?",
        "Lisa reads 30 pages a day. How many pages does she read in 5 days?",
        "A typist types 60 words per minute. How long for 3000 words?",
        "A search box takes at most 200 words, and more of them crash it. Why?",
        "Two words are anagrams if they share their letters. Is that so?",
        "Write a function that joins two words.",
        "Write a python function that returns true or false.",
        "A password must have at least 8 characters.",
        "Fix it:\ndef f(text: str) -> list[str]:\n    return text.split()[:3]  # three words",
        "import json\nprint(json.loads(line))",
        "Only the number of primes below 100 matters here.",
        "Write a line through two points.",
        "Which survey question is closed?\nA. Likert scale\nB. Open-ended\nC. Yes/No",
        "How many lines are there?\nA. 420 lines\nB. 491 lines",
        "Briefly at first, then in detail: what is a prion?",
        'Only JSON: {"reasoning": "", "answer": ""}',
        "Der Roman hat 3000 Wörter.",
        "Schreibe einen Brief an meine Tante.",
        "Le roman compte 3000 mots.",
        "El libro tiene 300 páginas.",
        "この文章は3000字です。",
        "Write 300 words in each section.",
        "0 words",
    ],
)
def test_where_nothing_is_asked_for_none_is_found(text: str) -> None:
    assert asked_tokens(text) is None


def test_longer_answers_are_more_tokens() -> None:
    asked = [
        asked_tokens(f"What is a prion? {how}.")
        for how in (
            "Answer yes or no",
            "Answer in one sentence",
            "Answer in two paragraphs",
            "Answer in 3000 words",
        )
    ]
    assert None not in asked
    assert asked == sorted(asked)  # type: ignore[type-var]
    assert len(set(asked)) == len(asked)


def test_the_number_is_within_bounds() -> None:
    assert asked_tokens("Write 999999 pages.") == MOST_TOKENS
    assert asked_tokens("Answer in 0.5 words.") == LEAST_TOKENS


def test_the_beginning_and_the_end_of_a_long_text_are_read() -> None:
    filler = "Bees fly. " * 1_000
    assert asked_tokens(f"Write 300 words on this. {filler}") == pytest.approx(405)
    assert asked_tokens(f"{filler} Write 300 words on this.") == pytest.approx(405)
    assert asked_tokens(f"{filler} Write 300 words on this. {filler}") is None
    assert len(filler) > HEAD_CHARS + TAIL_CHARS


WORDS = re.findall(r"\S+", " ".join(text for texts in SIZES.values() for text in texts))


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=40).map(" ".join))
def test_any_text_is_read(text: str) -> None:
    tokens = asked_tokens(text)
    assert tokens is None or LEAST_TOKENS <= tokens <= MOST_TOKENS
