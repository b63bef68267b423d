package gptoss120bep4

//go:generate go run ../../cmd/moegen generate moe.yaml
