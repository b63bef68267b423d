package llama4maverickep8

//go:generate go run ../../cmd/moegen generate moe.yaml
