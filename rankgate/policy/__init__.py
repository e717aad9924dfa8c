"""What the policy is asked and what it may answer.

`build_question` turns a call into the `input` of the policy, `parse_ruling` turns its answer into a Ruling or
refuses it. The engines behind `PolicyEngine` are interchangeable: they pass the same corpus
(tests/vectors/policy).
"""

from rankgate.policy.engine import PolicyEngine
from rankgate.policy.question import OPT_INS, build_question, encode_question
from rankgate.policy.ruling import Approval, Limits, Risk, Ruling, parse_ruling

__all__ = [
    "OPT_INS",
    "Approval",
    "Limits",
    "PolicyEngine",
    "Risk",
    "Ruling",
    "build_question",
    "encode_question",
    "parse_ruling",
]
