"""The agreed word by which a model says that it is not sure."""

from __future__ import annotations

from dataclasses import dataclass

from crossroute.errors import ConstraintError, shortened
from crossroute.strategies.base import Reply

LEAST_CHARACTERS, MOST_CHARACTERS = 3, 40
"""Of a word: a shorter one is the beginning of too many answers."""
MARKS = " \t\r\n*_`\"'([#>-\u2018\u201a\u201c\u201e\u00ab\u2039\u300c\u300e\u3010"
"""What may stand before it."""
MOST_MARKS = 20


@dataclass(frozen=True, slots=True)
class Word:
    """A word that a model is told to reply with, alone, when it is not sure.

    Attributes:
        text: The word; case makes no difference.

    Raises:
        ConstraintError: If it is no single word.
    """

    text: str

    def __post_init__(self) -> None:
        text = self.text
        if not (
            isinstance(text, str)
            and LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS
            and text.isprintable()
            and not any(map(str.isspace, text))
            and text[0] not in MARKS
        ):
            raise ConstraintError(
                f"word is {shortened(text)}; give a single word of {LEAST_CHARACTERS} to "
                f"{MOST_CHARACTERS} characters with which no answer begins, such as 'UNSURE'."
            )

    @classmethod
    def of(cls, text: str | None) -> Word | None:
        """A word that was given, or none.

        Raises:
            ConstraintError: If it is no single word.
        """
        return None if text is None else cls(text)

    @property
    def instruction(self) -> str:
        """What the model is told."""
        return (
            "If you are not sure that your answer is right, reply with the single word "
            f"{self.text} and nothing else."
        )

    def said(self, reply: Reply) -> bool:
        """Whether a reply begins with it, be the rest still to come."""
        begun = reply.text[: MOST_MARKS + 2 * MOST_CHARACTERS].lstrip(MARKS).casefold()
        word = self.text.casefold()
        if not begun.startswith(word):
            return False
        # Not a longer word, in scripts that leave space between words: NONE is not Nonetheless.
        after = begun[len(word) :]
        is_spaced = word[-1].upper() != word[-1].lower()
        return not is_spaced or (not after[0].isalnum() if after else reply.done)
