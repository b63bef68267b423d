package nvcc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// prepare creates the cache's directory.
func (c *cache) prepare() error {
	if c.broken != nil {
		return c.broken
	}
	return os.MkdirAll(c.dir, 0o700)
}

// put stores an image and returns it with its path. When another process was faster,
// it returns that one's; when storing fails, the image with a warning.
func (c *cache) put(work *work, j *job, version string, img Image) Image {
	final := filepath.Join(c.dir, j.entry(img.Key))
	err := c.stage(filepath.Join(work.dir, "entry"), j, version, img)
	for range 2 {
		if err != nil {
			break
		}
		// The rename fails when there is an entry: it is as good as this one, or damaged.
		if err = os.Rename(filepath.Join(work.dir, "entry"), final); err == nil {
			img.CachePath = filepath.Join(final, imageFile(img.Kind))
			if serr := syncDir(c.dir); serr != nil {
				img.Warnings = append(img.Warnings, fmt.Sprintf("the cache may lose the image in a power cut: %v", serr))
			}
			return img
		}
		if theirs, lerr := c.load(j, img.Key); lerr == nil {
			return theirs
		}
		if c.discard(filepath.Base(final)) {
			err = nil
		}
	}
	if err == nil {
		err = fmt.Errorf("cannot replace %s", final)
	}
	img.Warnings = append(img.Warnings, fmt.Sprintf("the image is not kept in the cache: %v", err))
	return img
}

// stage writes an entry aside.
func (c *cache) stage(dir string, j *job, version string, img Image) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(meta{Key: img.Key, Input: j.input, Name: j.base, Arch: j.target.Arch, Kind: img.Kind,
		Compiler: version, Flags: strings.Join(j.flags, " "), Digest: digest(img.Data), Log: img.Log}, "", "  ")
	if err != nil {
		return err
	}
	if err := c.write(filepath.Join(dir, imageFile(img.Kind)), img.Data); err != nil {
		return err
	}
	if err := c.write(filepath.Join(dir, metaFile), append(text, '\n')); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeSynced writes a file and waits until the disk has it: a rename may otherwise
// reach the disk before the data does.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if serr := f.Sync(); err == nil {
		err = serr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// discard removes a damaged entry, at once for those who look for it.
func (c *cache) discard(entry string) bool {
	away, err := os.MkdirTemp(c.dir, tempPrefix)
	if err != nil {
		return false
	}
	err = os.Rename(filepath.Join(c.dir, entry), filepath.Join(away, "damaged"))
	os.RemoveAll(away)
	return err == nil
}

const (
	// tempPrefix begins the names of the directories in which compilations run.
	tempPrefix = ".tmp-"
	// staleAge is when a directory is taken for a leftover where locks cannot tell.
	staleAge = time.Hour
	// deadAge is when it is one even though something seems to hold its lock.
	deadAge = 24 * time.Hour
)

// work is a directory in which one compilation runs. Its lock is held as long as this
// process lives, which is how others tell it from the leftover of a killed one.
type work struct {
	dir  string
	lock *fileLock
}

func (c *cache) newWork() (*work, error) {
	dir, err := os.MkdirTemp(c.dir, tempPrefix)
	if err != nil {
		return nil, err
	}
	// The lock gets its name once it is held, so that nobody finds it free in between.
	lock, err := tryLock(filepath.Join(dir, "lock.new"))
	if err == nil {
		err = os.Rename(filepath.Join(dir, "lock.new"), filepath.Join(dir, "lock"))
	}
	if err != nil {
		return &work{dir: dir}, nil // no locks here: the directory's age will have to do
	}
	return &work{dir: dir, lock: lock}, nil
}

func (w *work) remove() {
	os.RemoveAll(w.dir)
	w.lock.unlock()
}

// sweep removes the directories and lock files of killed compilations.
func (c *cache) sweep() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if dir := filepath.Join(c.dir, e.Name()); strings.HasPrefix(e.Name(), tempPrefix) && stale(dir) {
			os.RemoveAll(dir)
		}
	}
	locks, _ := os.ReadDir(filepath.Join(c.dir, lockDir))
	for _, e := range locks {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > deadAge {
			os.Remove(filepath.Join(c.dir, lockDir, e.Name()))
		}
	}
}

// stale reports whether nobody works in a directory any more: the lock of a process
// on this host is free, or the directory is old. Locks that were taken on other hosts
// prove nothing, since not every network file system shares them.
func stale(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	age := time.Since(info.ModTime())
	path := filepath.Join(dir, "lock")
	if !lockedHere(path) {
		return age > staleAge
	}
	lock, err := tryLock(path)
	if err != nil {
		return age > deadAge
	}
	lock.unlock()
	return true
}
