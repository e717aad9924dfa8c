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

# The positions of the call's documents, first is 0.
positions := numbers.range(0, input.rerank.document_count - 1) if input.rerank.document_count > 0

# matches_any(patterns, name): one of the patterns matches; "*" stands for any characters.
matches_any(patterns, name) if {
	some pattern in patterns
	glob.match(pattern, null, name)
}

# labels(position): what data.json says of the document with the id that the caller gave. The labels come from
# outside the request, the id does not: who names another id gets the labels of that id.
labels(position) := known(position) if count(known(position)) > 0

labels(position) := ["unlabelled"] if not known(position)

labels(position) := ["unlabelled"] if count(known(position)) == 0

known(position) := data.documents[input.rerank.ids[position]].labels

# cleared(label): the caller may see documents with this label.
cleared(label) if "*" in data.labels[label]

cleared(label) if {
	some group in input.identity.groups
	group in data.labels[label]
}

# found(types): the detector found one of these types, in whatever text.
found(types) if {
	some type in types
	input.findings.by_type[type] > 0
}
