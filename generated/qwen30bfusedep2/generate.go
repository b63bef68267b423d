package qwen30bfusedep2

//go:generate go run ../../cmd/moegen generate moe.yaml
