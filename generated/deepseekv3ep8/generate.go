package deepseekv3ep8

//go:generate go run ../../cmd/moegen generate moe.yaml
