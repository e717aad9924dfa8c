"""Rerank APIs: how to recognise one, read it, drop documents from it, map its answers back and refuse in it.

A new API is one small file that declares a Dialect, and one line in `choosing`.
"""

from rankgate.dialects.answering import AnswerShape, DropMode, Result
from rankgate.dialects.choosing import NAMES, by_name, choose, for_path
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.listing import Listing
from rankgate.dialects.reading import RequestShape

__all__ = [
    "NAMES",
    "AnswerShape",
    "Dialect",
    "DropMode",
    "Listing",
    "RequestShape",
    "Result",
    "by_name",
    "choose",
    "for_path",
]
