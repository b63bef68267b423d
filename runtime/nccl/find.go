package nccl

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// candidates lists what to load, best first: what the user named and nothing
// else, or the loader's own find, then the wheels of the Python environment
// that is in use (PyTorch brings NCCL that way). Python is not run.
func candidates() []string {
	if path := os.Getenv(LibraryEnv); path != "" {
		return []string{path}
	}
	list := []string{"libnccl.so.2"}
	prefixes := []string{os.Getenv("VIRTUAL_ENV"), os.Getenv("CONDA_PREFIX")}
	if python, err := exec.LookPath("python3"); err == nil {
		prefixes = append(prefixes, filepath.Dir(filepath.Dir(python)))
		// A virtual environment's python3 is a link to the one it came from.
		if real, err := filepath.EvalSymlinks(python); err == nil {
			prefixes = append(prefixes, filepath.Dir(filepath.Dir(real)))
		}
	}
	for _, prefix := range prefixes {
		if prefix == "" || prefix == "." {
			continue
		}
		for _, packages := range []string{
			"lib/python3*/site-packages", "lib64/python3*/site-packages",
			"lib/python3*/dist-packages", "local/lib/python3*/dist-packages",
		} {
			found, _ := filepath.Glob(filepath.Join(prefix, packages, "nvidia/nccl/lib/libnccl.so.2"))
			for _, path := range found {
				if !slices.Contains(list, path) {
					list = append(list, path)
				}
			}
		}
	}
	return list
}

// advice ends the error about a library that was not found.
func advice() string {
	if os.Getenv(LibraryEnv) != "" {
		return "check the path in " + LibraryEnv
	}
	return "install NCCL (the package libnccl2, or the wheel nvidia-nccl-cu13 in the active Python environment), or name the library in " + LibraryEnv
}
