# METADATA
# title: What OPA's decision log must not hold
# description: OPA evaluates `mask` for each entry of its decision log; every path it lists is removed there.
# scope: package
package system.log

mask contains "/input/rerank/query"

mask contains "/input/rerank/instruction"

mask contains "/input/rerank/documents_text"

mask contains "/input/parsed_body"

mask contains "/input/attributes/request/http/rawBody"

mask contains "/input/attributes/request/http/body"

mask contains "/input/attributes/request/http/path"

mask contains "/input/attributes/request/http/headers"

mask contains "/input/parsed_query"

mask contains "/input/identity/claims"
