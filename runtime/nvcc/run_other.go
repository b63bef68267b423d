//go:build !unix

package nvcc

import (
	"io/fs"
	"os/exec"
)

// killGroup leaves the kill to os/exec: there are no process groups here.
func killGroup(cmd *exec.Cmd) { cmd.WaitDelay = waitDelay }

func trusted(fs.FileInfo) bool { return true }

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }
