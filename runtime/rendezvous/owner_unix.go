//go:build unix

package rendezvous

import (
	"io/fs"
	"os"
	"syscall"
)

// owned says whether the file belongs to this user.
func owned(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
