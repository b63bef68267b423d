package cuda

import (
	"os"
	"strconv"
	"strings"
)

// MulticastDisabledBy returns the name of the environment variable that turns
// multicast (NVLS) off, "" if none does. They are other libraries' variables:
// whoever set one found multicast broken on the machine, so moegen follows it.
func MulticastDisabledBy() string {
	// NCCL parses a number (any base), 0 meaning off and 2, the default, auto.
	if v, ok := os.LookupEnv("NCCL_NVLS_ENABLE"); ok {
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 0, 64); err == nil && n == 0 {
			return "NCCL_NVLS_ENABLE"
		}
	}
	for _, name := range []string{"TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS"} {
		if truthy(os.Getenv(name)) {
			return name
		}
	}
	return ""
}

// MulticastBuilt reports whether the binary has the multicast calls: it has cgo,
// and was built without the tag nomulticast.
func MulticastBuilt() bool { return multicastBuilt }

func truthy(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "", "0", "false", "no", "off", "n", "f":
		return false
	}
	return true
}
