# METADATA
# title: Who may rank what
# description: |
#   The policy a gate starts with. Clients, limits, labels and documents stand in data.json; this file says what
#   they mean. `decision` is the ruling; every rule above it is one question a reader may ask.
# scope: package
# schemas:
#   - input: schema.question
package rankgate

import data.rankgate.lib

# Who is calling: the client that data.json lists under the token's tenant and subject.
client := data.clients[input.identity.tenant][input.identity.subject]

# What the client's role allows.
role := data.roles[client.role]

# A ruling always comes out: what is not allowed is denied, with every reason that holds.
decision := {
	"allowed": count(deny) == 0,
	"rankgate": object.union_n([
		{
			"reasons": sort(deny),
			"risk": risk,
			"documents": {"drop": sort(drop), "on_empty": "deny"},
		},
		masking,
		approval,
	]),
}

deny contains "this client is not known here" if not role

deny contains "this client may not rank with this model" if {
	role
	not lib.matches_any(role.models, lib.model)
}

deny contains "this client may not use this route" if {
	role
	not lib.matches_any(role.routes, input.route)
}

deny contains reason if {
	limit := role.limits.documents
	input.rerank.document_count > limit
	reason := sprintf("more than %d documents", [limit])
}

deny contains reason if {
	limit := role.limits.total_chars
	input.rerank.total_chars > limit
	reason := sprintf("more than %d characters", [limit])
}

deny contains "not a rerank call" if not input.rerank

# A document is dropped when one of its labels is not for the caller: see data.json, `documents` and `labels`. The
# labels come from there, outside the request; the id does not: who names another id gets the labels of that id.
drop contains position if {
	some position, id in input.rerank.ids
	some label in data.documents[id].labels
	not label in lib.cleared
}

# What data.json says nothing of counts as labelled "unlabelled".
drop contains position if {
	not "unlabelled" in lib.cleared
	some position in lib.unlabelled
}

# How risky the call is: by what the detector found, and how much of it.
default risk := "low"

risk := "high" if {
	lib.found(data.risk.high)
} else := "medium" if {
	input.findings.total > 0
}

# A stricter masking profile for clients that have one; without it the route's own profile holds.
default masking := {}

masking := {"mask": {"request": role.profile, "response": role.profile}} if role.profile

# What is risky for the role waits until the people that data.json names for it have agreed.
default approval := {}

approval := {"approval": object.remove(role.approval, ["risk"])} if risk in role.approval.risk
