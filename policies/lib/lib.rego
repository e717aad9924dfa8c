# METADATA
# title: Helpers for rerank policies
# description: Reads the question so that policies need not know its columns.
# scope: package
# schemas:
#   - input: schema.question
package rankgate.lib

# The model asked for; "default" where the call names none and the engine has only one.
default model := "default"

model := input.rerank.model

# matches_any(patterns, name): one of the patterns matches; "*" stands for any characters.
matches_any(patterns, name) if {
	some pattern in patterns
	glob.match(pattern, null, name)
}

# The labels that the caller is cleared for: data.json lists groups by label, "*" is everybody. A label that is not
# listed there is for nobody.
cleared contains label if {
	some label, groups in data.labels
	"*" in groups
}

cleared contains label if {
	some group in input.identity.groups
	some label, groups in data.labels
	group in groups
}

# The positions of documents that data.json says nothing of: without an id, with an unknown one, or without a label.
unlabelled contains position if {
	input.rerank.document_count > 0
	some position in numbers.range(0, input.rerank.document_count - 1)
	not labelled(position)
}

labelled(position) if count(data.documents[input.rerank.ids[position]].labels) > 0

# found(types): the detector found one of these types, in whatever text.
found(types) if {
	some type in types
	input.findings.by_type[type] > 0
}
