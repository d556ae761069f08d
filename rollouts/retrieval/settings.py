"""Options of looking motions up; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motions.settings import Settings


class LookupSettings(Settings):
    """Motions that are looked up by their captions."""

    top_k: int = Field(default=10, ge=1)
    """Motions nearest to a text, among which one is drawn."""

    temperature: float = Field(default=0.05, ge=0)
    """A motion is drawn with a probability in proportion to exp(cosine / temperature). 0: always the nearest one."""

    min_score: float = Field(default=-1.0, ge=-1, le=1)
    """Least cosine of the embeddings of text and caption. A text to which no caption is as near is an error."""

    search_backend: Literal["auto", "numpy", "faiss"] = "auto"
    """How the nearest captions are found, which is exact in any case. `auto`: by FAISS where it is installed."""
