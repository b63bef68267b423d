#!/bin/sh
# Makes a folder that runs moegen's GPU tests on a host without Go and without a
# network: static files, binaries, run.sh for the tests and bench.sh to measure.
#
# The binaries are built with the tag nomulticast: they contain no multicast
# call at all, because on a host whose fabric is shared, a failing multicast
# call can harm others. NVLink multicast runs in the emulator only.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
out=${1:?usage: buildtools/gpu-bundle.sh DIR}
mkdir -p "$(dirname -- "$out")"
out=$(CDPATH='' cd -- "$(dirname -- "$out")" && pwd -P)/$(basename -- "$out")
cd "$here"
if [ -e "$out" ] && [ ! -e "$out/.moegen-bundle" ] && [ -n "$(ls -A "$out")" ]; then
	echo "gpu-bundle: $out exists and is no bundle: remove it first" >&2
	exit 1
fi
rm -rf "$out"
mkdir -p "$out/ptx"
touch "$out/.moegen-bundle" # what may be removed, also when this run fails

# Without symbols: what is carried to rented machines is limited.
CGO_ENABLED=1 go build -tags nomulticast -trimpath -ldflags='-s -w' -o "$out/moegen" ./cmd/moegen
CGO_ENABLED=1 go test -c -tags nomulticast -trimpath -ldflags='-s -w' -o "$out/gpu.test" ./tests/gpu
CGO_ENABLED=1 go test -c -tags nomulticast -trimpath -ldflags='-s -w' -o "$out/cuda.test" ./runtime/cuda
CGO_ENABLED=1 go test -c -tags nomulticast -trimpath -ldflags='-s -w' -o "$out/join.test" ./tests/join
for binary in "$out/moegen" "$out/gpu.test" "$out/cuda.test" "$out/join.test"; do
	if grep -q cuMulticastCreate "$binary"; then
		echo "gpu-bundle: $binary contains cuMulticastCreate" >&2
		exit 1
	fi
done
cp -R generated "$out/generated"
cp -R tests/features "$out/features"
find "$out/generated" -name '*.go' -delete
# The PTX that the emulator's record was made from, so that GPUs run the same.
if ! MOEGEN_PTX_OUT="$out/ptx" go test -count=1 -run '^TestSamePTXSameBytes$' ./tests/gpu >"$out/ptx/log" 2>&1; then
	cat "$out/ptx/log" >&2
	exit 1
fi
rm "$out/ptx/log"

cat >"$out/run.sh" <<'EOF'
#!/bin/sh
# Runs everything that needs GPUs: run.sh [RESULTS_DIR]. Exits with 1 if
# anything failed or was skipped; the results are in RESULTS_DIR (default:
# results). It takes about seven minutes; a step that hangs costs only its limit.
# MOEGEN_STEPS="latency steps" runs only these. One GPU is enough for the
# probes, the rest needs two.
set -u
mkdir -p "${1:-results}"
results=$(CDPATH='' cd -- "${1:-results}" && pwd -P)
cd "$(dirname "$0")" || exit 1
export MOEGEN_RESULTS="$results" MOEGEN_CACHE_DIR="$PWD/cache"
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
if [ -z "${MOEGEN_NCCL:-}" ]; then
	lib=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null) || lib=
	[ -n "$lib" ] && export MOEGEN_NCCL="$lib"
fi
failed=0
log=$results/tests.txt
: >"$log"
step() {
	name=$1 limit=$2
	shift 2
	case " ${MOEGEN_STEPS:-$name} " in *" $name "*) ;; *) return ;; esac
	echo "== $name: $*" | tee -a "$log"
	timeout -k 5 "$limit" "$@" >step.txt 2>&1
	status=$?
	# A compiler's complaint or a goroutine dump can be long.
	head -c 2000000 step.txt >>"$log"
	word=ok
	[ $status -eq 0 ] || word=FAIL
	# Whoever rents GPUs and tests nothing on them wants to know.
	grep -q SKIPPED step.txt && word="FAIL, skipped,"
	[ "$word" = ok ] || failed=1
	tail -n 30 step.txt | cut -c1-220
	echo "$word $name (exit $status)" | tee -a "$log"
}
tests() { step "$1" "$2" ./gpu.test -test.v -test.timeout "$(($2 - 5))s" -test.run "^($3)\$"; }
step doctor 25 ./moegen doctor
step driver 40 ./cuda.test -test.v -test.run Real
step launch 30 ./cuda.test -test.run '^$' -test.bench Real
tests probes 60 TestProbes
tests nccl 40 TestNCCLAlone
tests bytes 60 TestSamePTXSameBytes
tests latency 100 TestLatency
tests steps 110 TestSteps
tests growth 60 TestGrowth
for protocol in ll bulk; do
	step "features-$protocol" 150 ./moegen run -backend cuda -transport p2p,nccl -protocol $protocol -replays 20 \
		-tokens 0/1,1/0,3,64/7,63/64 features/*.yaml
	step "prefill-$protocol" 30 ./moegen run -backend cuda -transport p2p,nccl -protocol $protocol -replays 20 -capacity 32 \
		-tokens 3,400/1,0/65,128/64,7/32 features/prefill.yaml
done
tests models 175 TestModels
# One process for each GPU.
step procs 60 ./moegen run -procs 2 -backend cuda -transport p2p,nccl -replays 20 -tokens 0/1,3,64/7 generated/deepseekv3ep2
if command -v torchrun >/dev/null; then
	step torchrun 90 torchrun --no-python --nproc-per-node 2 ./moegen run -backend cuda -transport p2p,nccl -replays 20 \
		-tokens 0/1,3,64/7 generated/deepseekv3ep2
fi
step kills 160 env MOEGEN_TEST_BACKEND=cuda MOEGEN_TEST_KILLS="${MOEGEN_TEST_KILLS:-40}" \
	./join.test -test.v -test.run Campaign -test.timeout 150s
if [ "${MOEGEN_GPU_SHARE:-}" = 1 ]; then
	# More ranks than there are GPUs: what several ranks do is at least run on one.
	for model in deepseekv3ep8 qwen235bep8 gptoss120bep4 llama4maverickep8 mixtral8x7bep8; do
		step "share-$model" 40 ./moegen run -backend cuda -share -sms 16 -transport p2p -replays 20 "generated/$model"
	done
fi
rm -f step.txt
exit $failed
EOF
cat >"$out/bench.sh" <<'EOF'
#!/bin/sh
# Measures on two GPUs: bench.sh [RESULTS_DIR]. moegen bench for three models,
# then moegen tune for every generated one, all at two ranks over p2p. Leaves
# bench.txt, what was printed, and bench.tar: JSON, plots and plans. Exits with 1
# if a step failed. The steps' limits add up to less than 200 seconds; a bench
# that is cut off leaves what it had.
set -u
mkdir -p "${1:-results}"
results=$(CDPATH='' cd -- "${1:-results}" && pwd -P)
cd "$(dirname "$0")" || exit 1
export MOEGEN_CACHE_DIR="$PWD/cache"
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
if [ -z "${MOEGEN_NCCL:-}" ]; then
	lib=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null) || lib=
	[ -n "$lib" ] && export MOEGEN_NCCL="$lib"
fi
backend=${MOEGEN_BENCH_BACKEND:-cuda} # emu: a rehearsal, which is slow
tune=11
[ "$backend" = emu ] && tune=120
failed=0
log=$results/bench.txt
: >"$log"
rm -rf out
mkdir out
step() {
	name=$1 limit=$2
	shift 2
	echo "== $name: $*" | tee -a "$log"
	timeout -s INT -k 10 "$limit" "$@" >>"$log" 2>&1
	status=$?
	word=ok
	[ $status -eq 0 ] || word=FAIL failed=1
	echo "$word $name (exit $status)" | tee -a "$log"
}
measure() {
	step "bench $1" "$2" ./moegen bench -backend "$backend" -transport p2p -ranks 2 -sms 132 -max-tokens "$3" \
		-save "out/bench-$1.json" -svg "out/bench-$1.svg" "$4"
}
measure deepseek-v3 50 4096 generated/deepseekv3ep2
measure gpt-oss-120b 22 1024 preset:gpt-oss-120b
measure qwen3-30b-a3b 22 1024 preset:qwen3-30b-a3b
for spec in generated/*/moe.yaml; do
	model=$(basename "$(dirname "$spec")")
	[ "$model" = deepseekv3ep8 ] && continue # at two ranks it is deepseekv3ep2
	step "tune $model" "$tune" ./moegen tune -backend "$backend" -transport p2p -ranks 2 -o "out/plan-$model.yaml" "$spec"
done
tar -cf "$results/bench.tar" -C out .
rm -rf out
exit $failed
EOF
chmod +x "$out/run.sh" "$out/bench.sh"
du -sh "$out"
