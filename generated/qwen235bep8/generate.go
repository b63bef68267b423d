package qwen235bep8

//go:generate go run ../../cmd/moegen generate moe.yaml
