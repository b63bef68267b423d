// Command program is what the tests build with and without the build tag
// nomulticast, to look for names in the binary.
package main

import (
	"fmt"
	"os"

	"github.com/moegen/moegen/runtime/nccl"
)

func main() {
	l, err := nccl.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Version(), l.HasWindows())
	if len(os.Args) > 1 { // never: it has to be there, not to run
		var c nccl.Comm
		fmt.Println(c.MultimemPointer(0, 0))
	}
}
