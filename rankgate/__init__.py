"""rankgate: an Envoy sidecar that guards rerankers.

The eleven words of this domain, in reading order:

request     what Envoy delivered, and the rerank call a dialect read out of it    rankgate.request
principal   the machine identity a verified token stands for                      rankgate.identity
dialect     one rerank API: how to read it, drop from it, answer in it            rankgate.dialects
finding     where a text holds sensitive data, and of which type                  rankgate.detect
question    what the policy is asked: identity, request and findings together     rankgate.policy
ruling      what the policy said, checked against a closed schema                 rankgate.policy
plan        what is masked, dropped and captured, fixed by route and ruling       rankgate.masking
approval    what people agreed to: one exact request, and what is done with it    rankgate.approvals
lease       the upstream credential lent to one allowed request                   rankgate.credentials
decision    allow or deny, with its reason and receipt                            rankgate.decision
handoff     what ext_authz tells ext_proc about a decision                        rankgate.handoff

`ext_authz/check.py` tells the story of a request in order; `ext_proc/exchange.py` the story of its bodies.
"""
