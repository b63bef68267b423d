// Command moegen generates and runs token exchanges for mixture-of-experts
// inference. See "moegen help".
package main

import (
	"os"

	"github.com/moegen/moegen/cmd/moegen/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
