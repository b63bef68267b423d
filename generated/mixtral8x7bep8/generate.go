package mixtral8x7bep8

//go:generate go run ../../cmd/moegen generate moe.yaml
