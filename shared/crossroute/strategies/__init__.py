"""Ways of answering: each strategy says what to ask, `drive` asks it.

A strategy is a generator without I/O, as httpx's `Auth.auth_flow` is: it yields what to ask, and is
sent what came back. So it is written once, for sync, async, whole answers and streams, and for
LangChain and LlamaIndex alike.
"""

from __future__ import annotations

from crossroute.strategies.base import (
    Ask,
    Flow,
    Reply,
    Role,
    Show,
    Strategy,
    Task,
    Together,
    Usage,
    check_strategy,
)
from crossroute.strategies.bill import Charge, bill, charge
from crossroute.strategies.drive import adrive, drive
from crossroute.strategies.exchange import Ended, EndedAsk, Exchange, Listener, Transport
from crossroute.strategies.pick_one import PickOne

__all__ = [
    "Ask",
    "Charge",
    "Ended",
    "EndedAsk",
    "Exchange",
    "Flow",
    "Listener",
    "PickOne",
    "Reply",
    "Role",
    "Show",
    "Strategy",
    "Task",
    "Together",
    "Transport",
    "Usage",
    "adrive",
    "bill",
    "charge",
    "check_strategy",
    "drive",
]
