# make demo    a verified MoE layer of DeepSeek-V3 on 8 emulated GPUs over NVLink multicast
# make test    all tests; what needs a GPU is skipped and counted
#
# Everything that is needed beyond Go, gcc and python3 is installed into
# .toolchain/, pinned by hash; nothing outside this folder is touched.

GO          ?= go
STATICCHECK  = $(GO) tool -modfile=buildtools/go.mod staticcheck
REVIVE       = $(GO) tool -modfile=buildtools/go.mod revive
CLANGFORMAT  = .toolchain/bin/clang-format
BUNDLE       = gpu-bundle

.PHONY: demo test toolchain build generate lint fmt gpu-bundle bench clean

demo:
	$(GO) run ./cmd/moegen run -backend emu -transport nvls generated/deepseekv3ep8

test: toolchain
	$(GO) test -json -timeout 30m ./... 2>&1 | $(GO) run -C buildtools ./testsummary

toolchain: ## nvcc 13.0 (unless there is one) and clang-format
	@buildtools/toolchain.sh -s cuda
	@buildtools/toolchain.sh lint

build:
	$(GO) build -o bin/ ./cmd/moegen

generate: toolchain ## the checked-in packages and the demonstration experts' PTX
	$(GO) generate ./generated/... ./templates/...

lint: toolchain
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run: make fmt"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags nomulticast ./runtime/... ./cmd/...
	$(STATICCHECK) ./...
	$(REVIVE) -config buildtools/revive.toml -set_exit_status ./generated/...
	$(CLANGFORMAT) --dry-run -Werror $$(git ls-files '*.cu' '*.c' '*.h' '*.cuh')

fmt: toolchain
	gofmt -w .
	$(CLANGFORMAT) -i $$(git ls-files '*.cu' '*.c' '*.h' '*.cuh')

gpu-bundle: ## binaries, specs and a script for a host with GPUs and without Go
	buildtools/gpu-bundle.sh $(BUNDLE)

bench: ## the emulator's speed
	$(GO) test -run '^$$' -bench . ./runtime/emu/...

clean:
	rm -rf bin $(BUNDLE)
