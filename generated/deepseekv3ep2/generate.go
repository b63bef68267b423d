package deepseekv3ep2

//go:generate go run ../../cmd/moegen generate moe.yaml
