#!/bin/sh
# Runs what needs GPUs: run.sh [RESULTS_DIR]. Exits with 1 if anything failed or
# was skipped; the results are in RESULTS_DIR (default: results). One GPU is
# enough for the probes, the rest needs two, or as many as MOEGEN_RANKS says.
#
#   run.sh -l                  lists the steps
#   MOEGEN_STEPS="soak fp8"    runs only these
#   MOEGEN_SOAK_SECONDS=1800   how long the soak goes on (60)
#   MOEGEN_TEST_KILLS=200      how many processes are ended (100)
#   MOEGEN_RANKS=4             how many GPUs soak, kills, bench, tune, generated, procs and torchrun take (2)
#   MOEGEN_SCHEDULES=1000      how many schedules the emulator explores (1000)
#   MOEGEN_FIRST_SEED=0        the first of their seeds (0)
#   MOEGEN_CORES=26            how many cores schedules and mutants take (all)
#   MOEGEN_GPU_REHEARSAL=1     no GPUs: the same flow on the emulator, with small sizes
#
# MOEGEN_TEST_SEED and MOEGEN_SOAK_SEED repeat what was random.
set -u
soak=${MOEGEN_SOAK_SECONDS:-60}
kills=${MOEGEN_TEST_KILLS:-100}
schedules=${MOEGEN_SCHEDULES:-1000}
cores=${MOEGEN_CORES:-$(nproc)}
export MOEGEN_RANKS="${MOEGEN_RANKS:-2}"
ranks=$MOEGEN_RANKS

# The steps, those first that answer the most: name, seconds on two H100 or H200
# (a step that hangs costs twice as many and 30), what it shows.
steps="
doctor          5 what the machine has
growth         45 where GPU memory goes when dispatchers come and go
models        100 five models over p2p and nccl, verified
kills $((kills * 2 * ranks)) processes that are ended at random; survivors go on
soak $((soak + 15)) random steps of every kind, verified; leaks, drift
deadline       30 what the check of deadlines costs
fp8            30 dispatch in fp8 beside bf16
variants      150 kernels that were thought of beside those that are
latency        25 deepseek-v3 beside NCCL and the link
steps          45 the host never waits, launches, memory, a missing rank
bench          95 bench.sh: three models, with JSON and plots
tune           90 bench.sh: plans for the generated models
bytes           7 the emulator's PTX leaves the same bytes
features-ll    80 specs of every feature, protocol ll
features-bulk  80 the same, protocol bulk
prefill-ll     10 prefills among replays, protocol ll
prefill-bulk   10 the same, protocol bulk
generated $((45 * ranks)) every generated model, in one process: no token here, the most there
generated-procs $((50 * ranks)) the same, one process a GPU
procs          20 one process a GPU
torchrun       30 the same, started by torchrun
probes          7 instructions against the record
nccl            3 the real library
driver          5 the seam over libcuda
launch         10 what a launch takes
schedules $((schedules * 60 / cores + 30)) the emulator judges all models' kernels; many cores, no GPU
mutants $((10000 / cores + 30)) every mutant of the kernels; many cores, no GPU
"
if [ "${1:-}" = -l ]; then
	echo "$steps" | while read -r name seconds what; do [ -n "$name" ] && printf '%-15s %4d s  %s\n' "$name" "$seconds" "$what"; done
	exit 0
fi
# A name that is mistyped on a rented machine would be found out too late.
for name in ${MOEGEN_STEPS:-}; do
	echo "$steps" | grep -q "^$name " || { echo "run.sh: no step $name; run.sh -l lists them" >&2; exit 2; }
done

mkdir -p "${1:-results}"
results=$(CDPATH='' cd -- "${1:-results}" && pwd -P)
cd "$(dirname "$0")" || exit 1
export MOEGEN_RESULTS="$results" MOEGEN_CACHE_DIR="$PWD/cache"
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
if [ -z "${MOEGEN_NCCL:-}" ]; then
	lib=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null) || lib=
	[ -n "$lib" ] && export MOEGEN_NCCL="$lib"
fi
rehearsal=${MOEGEN_GPU_REHEARSAL:-0}
backend=cuda processes=cuda features=0/1,1/0,3,64/7,63/64 prefills=3,400/1,0/65,128/64,7/32 replays=20 patience=1
[ "$rehearsal" = 1 ] && backend=emu processes= features=0/1,3/2 prefills=3,40/1,7/32 replays=2 patience=20
failed=0
log=$results/tests.txt
: >"$log"
began=$(date +%s)
expect() { # how many seconds a step takes, and may take
	expected=$(echo "$steps" | sed -n "s/^$1  *\([0-9]*\) .*/\1/p")
	[ -n "$expected" ] || { echo "run.sh: step $1 is not in the list" >&2; exit 2; }
	limit=$(((expected * 2 + 30) * patience))
}
step() {
	name=$1
	shift
	case " ${MOEGEN_STEPS:-$name} " in *" $name "*) ;; *) return ;; esac
	expect "$name"
	echo "== $name: $*" | tee -a "$log"
	start=$(date +%s)
	timeout -k 5 "$limit" "$@" >"$results/step.txt" 2>&1
	status=$?
	# A compiler's complaint or a goroutine dump can be long.
	head -c 2000000 "$results/step.txt" >>"$log"
	word=ok
	[ $status -eq 0 ] || word=FAIL
	# Whoever rents GPUs and tests nothing on them wants to know.
	grep -q 'SKIPPED\|no tests to run' "$results/step.txt" && word="FAIL, skipped,"
	[ "$word" = ok ] || failed=1
	tail -n 30 "$results/step.txt" | cut -c1-220
	now=$(date +%s)
	echo "$word $name (exit $status, $((now - start)) s of $expected; $((now - began)) s in all)" | tee -a "$log"
}
tests() {
	name=$1 run=$2
	shift 2
	expect "$name"
	step "$name" ./gpu.test -test.v -test.timeout "$((limit - 5))s" -test.run "^($run)\$" "$@"
}
step doctor ./moegen doctor
tests growth TestGrowth
tests models TestModels
expect kills
step kills env MOEGEN_TEST_KILLS="$kills" MOEGEN_TEST_RANKS="$ranks" MOEGEN_TEST_BACKEND="$processes" ./join.test -test.v -test.run Campaign \
	-test.timeout "$((limit - 5))s"
tests soak TestSoak "-soak=${soak}s" "-soak-seed=${MOEGEN_SOAK_SEED:-0}"
tests deadline TestDeadline
tests fp8 TestFP8
tests variants TestVariants
tests latency TestLatency
tests steps TestSteps
step bench ./bench.sh "$results" bench
step tune ./bench.sh "$results" tune
tests bytes TestSamePTXSameBytes
for protocol in ll bulk; do
	step "features-$protocol" ./moegen run -backend $backend -transport p2p,nccl -protocol $protocol -replays $replays \
		-tokens $features features/*.yaml
done
for protocol in ll bulk; do
	step "prefill-$protocol" ./moegen run -backend $backend -transport p2p,nccl -protocol $protocol -replays $replays \
		-capacity 32 -tokens $prefills features/prefill.yaml
done
# counts A B C is a step of MOEGEN_RANKS ranks: A, B, C, A, and so on.
counts() {
	list= k=0
	while [ $k -lt "$ranks" ]; do
		list="$list/$1" k=$((k + 1))
		set -- "$@" "$1"
		shift
	done
	echo "${list#/}"
}
most=512 sms=
[ "$rehearsal" = 1 ] && most=9 sms="-sms 4"
uneven=$(counts 0 1),$(counts 1 0 0),$(counts "$most" 0 7),3,0,$(counts 64 63),$most
[ "$rehearsal" = 1 ] && uneven=$(counts 0 1),$(counts "$most" 0 7),3
step generated ./moegen run -ranks "$ranks" -backend $backend $sms -transport p2p,nccl -replays $replays -capacity "$most" \
	-tokens "$uneven" generated/*
# One process for each GPU. Between emulated ones there is no NCCL.
transports=p2p,nccl
[ "$rehearsal" = 1 ] && transports=p2p
step generated-procs ./moegen run -ranks "$ranks" -procs "$ranks" -backend $backend $sms -transport $transports -replays $replays \
	-capacity "$most" -tokens "$(counts 0 1),$(counts "$most" 0 7),3" generated/*
step procs ./moegen run -ranks "$ranks" -procs "$ranks" -backend $backend -transport $transports -replays $replays \
	-tokens "$(counts 0 1),3,$(counts 64 7)" generated/deepseekv3ep2
if command -v torchrun >/dev/null; then
	step torchrun torchrun --no-python --nproc-per-node "$ranks" ./moegen run -ranks "$ranks" -backend $backend \
		-transport $transports -replays $replays -tokens "$(counts 0 1),3,$(counts 64 7)" generated/deepseekv3ep2
fi
tests probes TestProbes
tests nccl TestNCCLAlone
if [ "$rehearsal" != 1 ]; then
	step driver ./cuda.test -test.v -test.run Real
	step launch ./cuda.test -test.run '^$' -test.bench Real
fi
# No GPU is needed here, but a machine that has some has many cores. Only where it
# is asked for: on few cores these take hours. Collecting garbage less often takes
# a fifth off; memory is plenty there.
asked() { case " ${MOEGEN_STEPS:-} " in *" $1 "*) [ "$rehearsal" != 1 ] ;; *) false ;; esac }
if asked schedules; then
	expect schedules
	step schedules env GOGC=800 ./judge.test -test.run '^Test(Generated|Mixed)$' -schedules "$schedules" -first-seed "${MOEGEN_FIRST_SEED:-0}" \
		-test.parallel "$cores" -test.timeout "$((limit - 5))s"
fi
if asked mutants; then
	expect mutants
	step mutants env GOGC=800 sh -c 'cd mutation && exec ../mutation.test -test.run "^TestMutants$" -full -workers "$1" -test.v -test.timeout "$2"' \
		mutants "$cores" "$((limit - 5))s"
fi
if [ "${MOEGEN_GPU_SHARE:-}" = 1 ] && [ -z "${MOEGEN_STEPS:-}" ]; then
	# More ranks than there are GPUs: what several ranks do is at least run on one.
	for model in deepseekv3ep8 qwen235bep8 gptoss120bep4 llama4maverickep8 mixtral8x7bep8; do
		steps="$steps
share-$model 20 shared"
		step "share-$model" ./moegen run -backend $backend -share -sms 16 -transport p2p -replays $replays "generated/$model"
	done
fi
rm -f "$results/step.txt"
exit $failed
