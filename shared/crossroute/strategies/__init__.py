"""Ways of answering: each strategy says what to ask, `drive` asks it.

A strategy is a generator without I/O, as httpx's `Auth.auth_flow` is: it yields what to ask, and is
sent what came back. So it is written once, for sync, async, whole answers and streams, and for
LangChain and LlamaIndex alike.
"""

from __future__ import annotations

from crossroute.strategies.answers import (
    Extractor,
    choice,
    final_answer,
    final_number,
    json_value,
    normalised_text,
)
from crossroute.strategies.arms import Arm, Arms
from crossroute.strategies.base import (
    Ask,
    Drop,
    Flow,
    GoOn,
    Limit,
    Reply,
    Role,
    Show,
    Strategy,
    Task,
    Together,
    ToolCall,
    Usage,
    check_strategy,
)
from crossroute.strategies.bill import Charge, bill, charge
from crossroute.strategies.calibration import Calibration, CalibrationRow, Calibrations
from crossroute.strategies.cascade import Cascade
from crossroute.strategies.controller import Controller
from crossroute.strategies.drive import adrive, drive
from crossroute.strategies.exchange import Ended, EndedAsk, Exchange, Listener, Transport
from crossroute.strategies.handoff import Handoff
from crossroute.strategies.isotonic import cross_check
from crossroute.strategies.mixture import Mixture
from crossroute.strategies.mixture_scores import MixtureWeights, ScoreWeights
from crossroute.strategies.panel import Panel, Panels
from crossroute.strategies.pick_one import PickOne
from crossroute.strategies.probe import Probe
from crossroute.strategies.signals import (
    Agreement,
    MeanLogprob,
    MinLogprob,
    PTrue,
    Signal,
    StatedConfidence,
    WindowLogprob,
)
from crossroute.strategies.vote import Vote
from crossroute.strategies.wrappers import within

__all__ = [
    "Agreement",
    "Arm",
    "Arms",
    "Ask",
    "Calibration",
    "CalibrationRow",
    "Calibrations",
    "Cascade",
    "Charge",
    "Controller",
    "Drop",
    "Ended",
    "EndedAsk",
    "Exchange",
    "Extractor",
    "Flow",
    "GoOn",
    "Handoff",
    "Limit",
    "Listener",
    "MeanLogprob",
    "MinLogprob",
    "Mixture",
    "MixtureWeights",
    "PTrue",
    "Panel",
    "Panels",
    "PickOne",
    "Probe",
    "Reply",
    "Role",
    "ScoreWeights",
    "Show",
    "Signal",
    "StatedConfidence",
    "Strategy",
    "Task",
    "Together",
    "ToolCall",
    "Transport",
    "Usage",
    "Vote",
    "WindowLogprob",
    "adrive",
    "bill",
    "charge",
    "check_strategy",
    "choice",
    "cross_check",
    "drive",
    "final_answer",
    "final_number",
    "json_value",
    "normalised_text",
    "within",
]
