#!/bin/sh
# Installs the pinned CUDA compiler, and on request the formatter, into .toolchain/
# at the top of the checkout. Nothing outside that folder is touched.
#
# A set of tools is installed into a temporary folder and moved to its final name
# in one rename, so an interrupted or concurrent run never leaves half of one.

set -eu

usage() {
	cat <<'EOF'
usage: buildtools/toolchain.sh [-f] [-s] [cuda|lint|all]

  cuda   .toolchain/bin/nvcc: NVIDIA's CUDA 13.0 wheels, toolchain.txt (default)
  lint   .toolchain/bin/clang-format, toolchain-lint.txt
  all    both

  -s     install no nvcc when CUDA_HOME, CUDA_PATH or PATH already has an nvcc 13
  -f     install again, even where the tool is already there

PYTHON names the Python to use (default python3); it must have pip. pip's own
settings (PIP_INDEX_URL, PIP_PROXY and so on) hold; every file is checked against
the SHA-256 sums in the repository, wherever it came from.
EOF
}

note() { printf 'toolchain: %s\n' "$*" >&2; }
die() {
	note "error: $1"
	shift
	for line in "$@"; do printf '  %s\n' "$line" >&2; done
	exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
root=$(dirname -- "$here")
dest=$root/.toolchain
python=${PYTHON:-python3}
force=
system_ok=
tmp=

cleanup() { [ -z "$tmp" ] || rm -rf -- "$tmp"; }
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

check_machine() {
	case "$(uname -s)-$(uname -m)" in
	Linux-x86_64 | Linux-aarch64) ;;
	*) die "no pinned wheels for $(uname -s) on $(uname -m); only Linux on x86_64 and aarch64" \
		"moegen's tests run without a compiler; to compile kernels use a Linux machine." ;;
	esac
	command -v "$python" >/dev/null 2>&1 || die "no $python on PATH" \
		"Install Python 3 with pip, or name one: PYTHON=/path/to/python3 $0" \
		"Or install CUDA 13 yourself and set MOEGEN_NVCC=/path/to/nvcc."
	"$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip" \
		"Install it (Debian, Ubuntu: apt install python3-pip; else: $python -m ensurepip)," \
		"or name a Python that has it: PYTHON=/path/to/python3 $0"
}

# install SET REQUIREMENTS PROBE: installs REQUIREMENTS as $dest/SET, unless PROBE
# (a program inside SET) is there already.
install() {
	set_name=$1 requirements=$2 probe=$3
	check_machine
	mkdir -p -- "$dest"
	# One download at a time where flock(1) exists; it only saves work, the rename
	# below is what keeps two runs apart. The lock goes with this process.
	if command -v flock >/dev/null 2>&1; then
		exec 9>"$dest/.lock"
		flock -w 900 9 || note "another run holds $dest/.lock for long; going on without it"
	fi
	if [ -z "$force" ] && [ -x "$dest/$set_name/$probe" ]; then
		return 0 # another run put it there while we waited
	fi
	# Leftovers of killed runs; a live one is younger than this.
	find "$dest" -maxdepth 1 -name '.tmp.*' -mmin +120 -exec rm -rf -- {} + 2>/dev/null || :
	tmp=$(mktemp -d "$dest/.tmp.XXXXXX")
	note "installing $(basename -- "$requirements") into $dest/$set_name"
	# PIP_USER=0: a user-wide "user = true" would contradict --target.
	if ! PIP_USER=0 "$python" -m pip install --quiet --disable-pip-version-check \
		--no-input --no-deps --require-hashes --only-binary=:all: --no-compile --no-warn-script-location \
		--target "$tmp/new" -r "$requirements" >"$tmp/log" 2>&1; then
		sed 's/^/  pip: /' "$tmp/log" >&2
		die "pip could not install $(basename -- "$requirements")" \
			"Without a network, install CUDA 13 from elsewhere and set MOEGEN_NVCC=/path/to/nvcc;" \
			"with a mirror, set PIP_INDEX_URL. A hash mismatch means that the file is not the pinned one."
	fi
	[ -x "$tmp/new/$probe" ] || die "the wheels do not hold $probe; is pip's --target honoured?"
	chmod -R go+rX "$tmp/new"
	if [ -n "$force" ] && [ -e "$dest/$set_name" ]; then
		mv -T -- "$dest/$set_name" "$tmp/old"
	fi
	# Fails when another run was faster: then theirs is as good as ours.
	mv -T -- "$tmp/new" "$dest/$set_name" 2>/dev/null || [ -x "$dest/$set_name/$probe" ] ||
		die "cannot move the new tools to $dest/$set_name"
	cleanup
	tmp=
}

# put NAME SCRIPT: writes the wrapper .toolchain/bin/NAME in one rename.
put() {
	mkdir -p -- "$dest/bin"
	part=$dest/bin/.$1.$$
	printf '%s\n' "$2" >"$part"
	chmod 755 "$part"
	mv -f -T -- "$part" "$dest/bin/$1"
}

# nvcc13 NVCC: whether NVCC is a compiler of CUDA 13.
nvcc13() { "$1" --version 2>/dev/null | grep -q 'release 13\.'; }

system_nvcc() {
	for nvcc in "${CUDA_HOME:-}/bin/nvcc" "${CUDA_PATH:-}/bin/nvcc" "$(command -v nvcc || :)"; do
		if [ -x "$nvcc" ] && nvcc13 "$nvcc"; then
			printf '%s\n' "$nvcc"
			return 0
		fi
	done
	return 1
}

cuda() {
	nvcc=$dest/bin/nvcc
	if [ -z "$force" ] && [ -x "$nvcc" ] && "$nvcc" --version 2>/dev/null | grep -q 'release 13\.0,'; then
		return 0
	fi
	if [ -n "$system_ok" ] && found=$(system_nvcc); then
		note "using $found; nothing to install"
		return 0
	fi
	install cuda-13.0 "$here/toolchain.txt" nvidia/cu13/bin/nvcc
	# A wrapper, not a link: nvcc looks for nvcc.profile and its helpers beside the
	# path it was started by. It finds its folder from its own path, so that the
	# checkout can be moved.
	put nvcc '#!/bin/sh
# Written by buildtools/toolchain.sh.
exec "$(dirname -- "$(readlink -f -- "$0")")/../cuda-13.0/nvidia/cu13/bin/nvcc" "$@"'
	nvcc13 "$nvcc" || die "$nvcc does not run" "$("$nvcc" --version 2>&1 | head -n 3)"
	note "$nvcc is $("$nvcc" --version | sed -n 's/.*, V/nvcc /p')"
	command -v "${NVCC_CCBIN:-gcc}" >/dev/null 2>&1 ||
		note "warning: no gcc on PATH; nvcc needs one even to write PTX (or set NVCC_CCBIN)"
}

lint() {
	tool=$dest/bin/clang-format
	want=$(sed -n 's/^clang-format==\([0-9.]*\).*/\1/p' "$here/toolchain-lint.txt")
	if [ -z "$force" ] && [ -x "$tool" ] && "$tool" --version 2>/dev/null | grep -qF "version $want"; then
		return 0
	fi
	install "clang-format-$want" "$here/toolchain-lint.txt" clang_format/data/bin/clang-format
	put clang-format "#!/bin/sh
# Written by buildtools/toolchain.sh.
exec \"\$(dirname -- \"\$(readlink -f -- \"\$0\")\")/../clang-format-$want/clang_format/data/bin/clang-format\" \"\$@\""
	"$tool" --version >/dev/null 2>&1 || die "$tool does not run" "$("$tool" --version 2>&1 | head -n 3)"
	note "$tool is $("$tool" --version)"
}

while getopts fhs option; do
	case $option in
	f) force=1 ;;
	s) system_ok=1 ;;
	h)
		usage
		exit 0
		;;
	*)
		usage >&2
		exit 2
		;;
	esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || {
	usage >&2
	exit 2
}

case ${1:-cuda} in
cuda) cuda ;;
lint) lint ;;
all)
	cuda
	lint
	;;
*)
	usage >&2
	exit 2
	;;
esac
