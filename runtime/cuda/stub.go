//go:build !linux || !cgo

package cuda

import (
	"fmt"
	"runtime"

	"github.com/moegen/moegen/runtime/driver"
)

const multicastBuilt = false

// Open fails: this binary cannot load the CUDA driver.
func Open(...Option) (driver.Driver, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("cuda: %w: moegen uses the CUDA driver on Linux only, and this binary is for %s", driver.ErrNoDriver, runtime.GOOS)
	}
	return nil, fmt.Errorf("cuda: %w: this binary was built without cgo; build it with CGO_ENABLED=1 and a C compiler", driver.ErrNoDriver)
}
