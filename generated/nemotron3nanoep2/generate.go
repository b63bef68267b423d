package nemotron3nanoep2

//go:generate go run ../../cmd/moegen generate moe.yaml
