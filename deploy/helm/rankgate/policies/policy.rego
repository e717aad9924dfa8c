# METADATA
# title: Which service accounts may rank
# description: |
#   data.json lists them by namespace. The tenant is the token's namespace and the subject its service account,
#   both as the cluster's issuer signed them.
# scope: package
# schemas:
#   - input: schema.question
package rankgate

default decision := {"allowed": false, "rankgate": {"reasons": ["this service account may not rank here"]}}

decision := {"allowed": true} if {
	some account in data.callers[input.identity.tenant]
	input.identity.subject == concat(":", ["system:serviceaccount", input.identity.tenant, account])
	input.rerank.document_count <= data.limits.documents
}
