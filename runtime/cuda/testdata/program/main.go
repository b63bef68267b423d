// Command program opens the CUDA driver. The tests build it with and without
// the build tag nomulticast, to look for names in the binary and to see what
// it prints.
package main

import (
	"fmt"
	"os"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
)

func main() {
	d, err := cuda.Open()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	n, err := d.Devices()[0].Attribute(driver.AttrMulticastSupported)
	fmt.Println("supported:", n, err)
	_, _, err = d.MulticastGranularity(2, 1<<21, driver.HandlePosixFD)
	fmt.Println("granularity:", err)
	m, err := d.CreateMulticast(2, 1<<21, driver.HandlePosixFD)
	fmt.Println("create:", err)
	if err == nil {
		fmt.Println("add:", m.AddDevice(d.Devices()[0]))
	}
}
