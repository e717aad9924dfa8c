package rankgate_test

import data.rankgate

clients := {"acme": {
	"search-svc": {"role": "search"},
	"legal-svc": {"role": "legal"},
	"batch-svc": {"role": "batch"},
	"strict-svc": {"role": "strict"},
	"fraud-svc": {"role": "fraud"},
}}

roles := {
	"search": {"models": ["rerank-*", "default"], "routes": ["*"], "limits": {"documents": 3, "total_chars": 1000}},
	"legal": {"models": ["rerank-*"], "routes": ["*"], "limits": {"documents": 3, "total_chars": 1000}},
	"batch": {"models": ["batch-*"], "routes": ["bulk"], "limits": {"documents": 9, "total_chars": 9000}},
	"strict": {"models": ["*"], "routes": ["*"], "limits": {"documents": 3, "total_chars": 1000}, "profile": "strict"},
	"fraud": {
		"models": ["*"],
		"routes": ["*"],
		"limits": {"documents": 3, "total_chars": 1000},
		"approval": {"risk": ["high"], "groups": ["data-protection"], "quorum": 2},
	},
}

documents := {
	"kb-1": {"labels": ["public"]},
	"hr-1": {"labels": ["public", "restricted"]},
	"odd-1": {"labels": ["never-listed"]},
	"bare-1": {"labels": []},
}

# The question of `subject` for documents with these ids, changed by `rerank`.
question(subject, group, ids, rerank) := {
	"identity": {"tenant": "acme", "subject": subject, "groups": [group]},
	"route": "cohere-v2",
	"findings": {"total": 0, "by_type": {}, "query": {}, "by_document": {}},
	"rerank": object.union(
		{"model": "rerank-v3.5", "document_count": count(ids), "total_chars": 100, "ids": ids},
		rerank,
	),
}

without_model(asked) := object.union(
	object.remove(asked, ["rerank"]),
	{"rerank": object.remove(asked.rerank, ["model"])},
)

decide(asked) := ruling if {
	ruling := rankgate.decision with input as asked
		with data.clients as clients
		with data.roles as roles
		with data.documents as documents
		with data.labels as {"public": ["*"], "unlabelled": ["*"], "restricted": ["legal"]}
}

test_a_known_client_may_rank if {
	ruling := decide(question("search-svc", "search", ["kb-1"], {}))
	ruling.allowed
	ruling.rankgate.reasons == []
	ruling.rankgate.documents.drop == []
}

test_an_unknown_client_is_denied_with_a_reason if {
	ruling := decide(question("other-svc", "search", ["kb-1"], {}))
	not ruling.allowed
	ruling.rankgate.reasons == ["this client is not known here"]
}

test_a_client_of_another_tenant_is_unknown if {
	asked := object.union(
		question("search-svc", "search", ["kb-1"], {}),
		{"identity": {"tenant": "other", "subject": "search-svc", "groups": ["search"]}},
	)
	ruling := decide(asked)
	not ruling.allowed
}

test_a_model_the_role_does_not_list_is_denied if {
	ruling := decide(question("batch-svc", "batch", ["kb-1"], {}))
	not ruling.allowed
	"this client may not rank with this model" in ruling.rankgate.reasons
	"this client may not use this route" in ruling.rankgate.reasons
}

test_a_call_without_a_model_asks_for_the_default if {
	search := question("search-svc", "search", ["kb-1"], {})
	decide(without_model(search)).allowed
	legal := question("legal-svc", "legal", ["kb-1"], {})
	decide(legal).allowed
	not decide(without_model(legal)).allowed
}

test_too_many_documents_are_denied_with_the_limit if {
	ruling := decide(question("search-svc", "search", ["a", "b", "c", "d"], {}))
	not ruling.allowed
	ruling.rankgate.reasons == ["more than 3 documents"]
}

test_too_many_characters_are_denied if {
	ruling := decide(question("search-svc", "search", ["kb-1"], {"total_chars": 1001}))
	not ruling.allowed
	ruling.rankgate.reasons == ["more than 1000 characters"]
}

test_a_call_that_is_no_rerank_call_is_denied if {
	ruling := decide(object.remove(question("search-svc", "search", ["kb-1"], {}), ["rerank"]))
	not ruling.allowed
	"not a rerank call" in ruling.rankgate.reasons
}

test_a_restricted_document_is_dropped_for_others if {
	ruling := decide(question("search-svc", "search", ["kb-1", "hr-1", "new-1"], {}))
	ruling.allowed
	ruling.rankgate.documents == {"drop": [1], "on_empty": "deny"}
}

test_a_restricted_document_is_ranked_for_legal if {
	ruling := decide(question("legal-svc", "legal", ["kb-1", "hr-1"], {}))
	ruling.rankgate.documents.drop == []
}

test_a_label_nobody_is_cleared_for_drops if {
	ruling := decide(question("legal-svc", "legal", ["odd-1", "kb-1"], {}))
	ruling.rankgate.documents.drop == [0]
}

test_documents_without_labels_are_unlabelled if {
	asked := question("search-svc", "search", ["bare-1", "new-1", null], {})
	open := decide(asked)
	open.rankgate.documents.drop == []
	closed := rankgate.decision with input as asked
		with data.clients as clients
		with data.roles as roles
		with data.documents as documents
		with data.labels as {"public": ["*"]}
	closed.rankgate.documents.drop == [0, 1, 2]
}

with_card(subject) := object.union(
	question(subject, "any", ["kb-1"], {}),
	{"findings": {"total": 1, "by_type": {"CREDIT_CARD": 1}, "query": {}, "by_document": {}}},
)

test_what_is_risky_for_a_role_waits_for_people if {
	ruling := decide(with_card("fraud-svc"))
	ruling.allowed
	ruling.rankgate.approval == {"groups": ["data-protection"], "quorum": 2}
}

test_what_is_not_risky_waits_for_nobody if {
	not decide(question("fraud-svc", "any", ["kb-1"], {})).rankgate.approval
	not decide(with_card("search-svc")).rankgate.approval
}

test_the_risk_follows_the_findings if {
	asked := question("search-svc", "search", ["kb-1"], {})
	decide(asked).rankgate.risk == "low"
	mail := {"findings": {"total": 1, "by_type": {"EMAIL_ADDRESS": 1}}}
	decide(object.union(asked, mail)).rankgate.risk == "medium"
	card := {"findings": {"total": 2, "by_type": {"EMAIL_ADDRESS": 1, "CREDIT_CARD": 1}}}
	decide(object.union(asked, card)).rankgate.risk == "high"
}

test_a_role_with_a_profile_is_masked_by_it if {
	ruling := decide(question("strict-svc", "strict", ["kb-1"], {}))
	ruling.rankgate.mask == {"request": "strict", "response": "strict"}
	not decide(question("search-svc", "search", ["kb-1"], {})).rankgate.mask
}
