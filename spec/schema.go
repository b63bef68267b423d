package spec

import _ "embed"

//go:generate go test . -run ^(TestSchema|TestReference)$ -update

//go:embed moegen.schema.json
var schema string

// Schema returns the JSON Schema of specs, version draft-07: what [SchemaURL]
// publishes. It accepts every spec that [Load] accepts, and some that Load does
// not, because a schema compares no two fields.
func Schema() []byte { return []byte(schema) }
