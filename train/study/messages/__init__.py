"""The texts that observers read, one file for each language."""

import json
from collections.abc import Mapping
from pathlib import Path

from train.errors import InputError

_FOLDER = Path(__file__).parent
_FIRST = "en"  # the language that has every text


def languages() -> list[str]:
    """The languages that there is a file for."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def read_messages(language: str) -> Mapping[str, str]:
    """Returns the texts in a language.

    Raises:
      InputError: if there is no file for it, or if the file lacks a text.
    """
    if language not in languages():
        raise InputError(
            f"There is no language {language!r}. Languages: {', '.join(languages())}. To add one, "
            f"translate train/study/messages/{_FIRST}.json."
        )
    texts, first = (
        json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for name in (language, _FIRST)
    )
    if missing := sorted(set(first) - set(texts)):
        raise InputError(f"{language}.json lacks {', '.join(missing)}.")
    return {name: str(texts[name]) for name in first}
