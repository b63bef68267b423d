#!/bin/sh
# Measures on GPUs: bench.sh [RESULTS_DIR] [bench|tune]. moegen bench for three
# models, then moegen tune for every generated one, over p2p, on two GPUs or as
# many as MOEGEN_RANKS says.
# Leaves bench.txt, what was printed, and bench.tar: JSON, plots and plans
# (tune.txt, tune.tar if it is told to tune only). Exits with 1 if a step failed;
# a bench that is cut off leaves what it had.
set -u
mkdir -p "${1:-results}"
results=$(CDPATH='' cd -- "${1:-results}" && pwd -P)
only=${2:-}
cd "$(dirname "$0")" || exit 1
export MOEGEN_CACHE_DIR="$PWD/cache"
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
if [ -z "${MOEGEN_NCCL:-}" ]; then
	lib=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null) || lib=
	[ -n "$lib" ] && export MOEGEN_NCCL="$lib"
fi
backend=cuda most=4096 patience=1 ranks=${MOEGEN_RANKS:-2}
# A rehearsal on the emulator: times mean nothing, so few tokens will do.
[ "${MOEGEN_GPU_REHEARSAL:-}" = 1 ] && backend=emu most=2 patience=20
failed=0
log=$results/${only:-bench}.txt
: >"$log"
rm -rf out
mkdir out
step() {
	name=$1 limit=$2
	shift 2
	echo "== $name: $*" | tee -a "$log"
	timeout -s INT -k 10 $((limit * patience)) "$@" >>"$log" 2>&1
	status=$?
	word=ok
	[ $status -eq 0 ] || word=FAIL failed=1
	echo "$word $name (exit $status)" | tee -a "$log"
}
measure() {
	tokens=$3
	[ "$tokens" -lt "$most" ] || tokens=$most
	step "bench $1" "$2" ./moegen bench -backend "$backend" -transport p2p -ranks "$ranks" -sms 132 -max-tokens "$tokens" \
		-save "out/bench-$1.json" -svg "out/bench-$1.svg" "$4"
}
if [ "$only" != tune ]; then
	measure deepseek-v3 $((30 * ranks)) 4096 generated/deepseekv3ep2
	measure gpt-oss-120b $((15 * ranks)) 1024 preset:gpt-oss-120b
	measure qwen3-30b-a3b $((15 * ranks)) 1024 preset:qwen3-30b-a3b
fi
if [ "$only" != bench ]; then
	for spec in generated/*/moe.yaml; do
		model=$(basename "$(dirname "$spec")")
		[ "$model" = deepseekv3ep8 ] && continue # with other ranks it is deepseekv3ep2
		step "tune $model" $((12 * ranks)) ./moegen tune -backend "$backend" -transport p2p -ranks "$ranks" -o "out/plan-$model.yaml" "$spec"
	done
fi
tar -cf "$results/${only:-bench}.tar" -C out .
rm -rf out
exit $failed
