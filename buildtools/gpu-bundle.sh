#!/bin/sh
# Makes a folder that runs moegen's GPU tests on a host without Go and without a
# network: static files, two binaries and run.sh.
#
# The binaries are built with the tag nomulticast: they contain no multicast
# call at all, because on a host whose fabric is shared, a failing multicast
# call can harm others. NVLink multicast runs in the emulator only.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
out=${1:?usage: buildtools/gpu-bundle.sh DIR}
cd "$here"
rm -rf "$out"
mkdir -p "$out"

CGO_ENABLED=1 go build -tags nomulticast -trimpath -o "$out/moegen" ./cmd/moegen
CGO_ENABLED=1 go test -c -tags nomulticast -trimpath -o "$out/gpu.test" ./tests/gpu
for binary in "$out/moegen" "$out/gpu.test"; do
	if grep -q cuMulticastCreate "$binary"; then
		echo "gpu-bundle: $binary contains cuMulticastCreate" >&2
		exit 1
	fi
done
cp -R generated "$out/generated"
find "$out/generated" -name '*.go' -delete

cat >"$out/run.sh" <<'EOF'
#!/bin/sh
# Runs everything that needs GPUs: run.sh [RESULTS_DIR]. Exits with 1 if
# anything failed; the results are in RESULTS_DIR (default: results).
set -u
cd "$(dirname "$0")"
results=${1:-results}
mkdir -p "$results"
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
if [ -z "${MOEGEN_NCCL:-}" ]; then
	lib=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null) || lib=
	[ -n "$lib" ] && export MOEGEN_NCCL="$lib"
fi
failed=0
step() {
	name=$1
	shift
	echo "== $name: $*"
	if "$@" >"$results/$name.txt" 2>&1; then echo "ok   $name"; else echo "FAIL $name"; failed=1; fi
	tail -n 15 "$results/$name.txt"
}
step doctor ./moegen doctor
step tests ./gpu.test -test.v -test.timeout 8m
exit $failed
EOF
chmod +x "$out/run.sh"
du -sh "$out"
