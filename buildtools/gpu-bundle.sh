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
CGO_ENABLED=1 go test -c -tags nomulticast -trimpath -ldflags='-s -w' -o "$out/judge.test" ./tests/judge
CGO_ENABLED=1 go test -c -tags nomulticast -trimpath -ldflags='-s -w' -o "$out/mutation.test" ./tests/mutation
for binary in "$out/moegen" "$out/gpu.test" "$out/cuda.test" "$out/join.test" "$out/judge.test" "$out/mutation.test"; do
	if grep -q cuMulticastCreate "$binary"; then
		echo "gpu-bundle: $binary contains cuMulticastCreate" >&2
		exit 1
	fi
done
cp -R generated "$out/generated"
cp -R tests/features "$out/features"
mkdir "$out/mutation"
cp -R tests/mutation/testdata "$out/mutation/testdata"
find "$out/generated" -name '*.go' -delete
# The PTX that the emulator's record was made from, so that GPUs run the same.
if ! MOEGEN_PTX_OUT="$out/ptx" go test -count=1 -run '^TestSamePTXSameBytes$' ./tests/gpu >"$out/ptx/log" 2>&1; then
	cat "$out/ptx/log" >&2
	exit 1
fi
rm "$out/ptx/log"

cp buildtools/gpu/run.sh buildtools/gpu/bench.sh "$out"
du -sh "$out"
