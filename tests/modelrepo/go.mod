module example.com/engine

go 1.26.8

tool github.com/moegen/moegen/cmd/moegen

require github.com/moegen/moegen v0.0.0

require (
	github.com/dave/jennifer v1.7.1 // indirect
	github.com/gofrs/flock v0.13.2 // indirect
	github.com/google/renameio/v2 v2.0.2 // indirect
	github.com/rogpeppe/go-internal v1.16.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

// A repository of its own leaves this line out: go get -tool github.com/moegen/moegen/cmd/moegen
replace github.com/moegen/moegen => ../..
