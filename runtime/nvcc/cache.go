package nvcc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// CacheDir is the directory of the cache: MOEGEN_CACHE_DIR, or moegen in the user's
// cache directory. It need not exist.
func CacheDir() (string, error) {
	if dir := os.Getenv("MOEGEN_CACHE_DIR"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("nvcc: MOEGEN_CACHE_DIR: %w", err)
		}
		return abs, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("nvcc: no cache directory (set MOEGEN_CACHE_DIR): %w", err)
	}
	return filepath.Join(dir, "moegen"), nil
}

// privateDir is CacheDir, unless that exists and another user could put kernels
// into it.
func privateDir() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() && (!trusted(info) || info.Mode().Perm()&0o002 != 0) {
		return dir, fmt.Errorf("nvcc: %s (%v) is another user's, or all can write to it: chmod o-w it, or set MOEGEN_CACHE_DIR to another", dir, info.Mode())
	}
	return dir, nil
}

// cache is the cache on disk. An entry is a directory <name>.<key> with the image and
// meta.json; names with a leading dot are the cache's own.
type cache struct {
	dir    string
	broken error // why there is no directory
	write  func(path string, data []byte) error
}

// meta is what meta.json holds.
type meta struct {
	Key      string `json:"key"`
	Input    string `json:"input"` // the key without the compiler's version
	Name     string `json:"name"`
	Arch     string `json:"arch"`
	Kind     Kind   `json:"kind"`
	Compiler string `json:"compiler"`
	Flags    string `json:"flags"`
	Digest   string `json:"sha256"` // of the image
	Log      string `json:"log"`
}

const metaFile = "meta.json"

func imageFile(kind Kind) string { return "image." + string(kind) }

// load reads an entry and checks that it is whole. The error is os.ErrNotExist when
// there is no such entry, and something else when there is one that is damaged.
func (c *cache) load(j *job, key string) (Image, error) {
	if c.broken != nil {
		return Image{}, os.ErrNotExist
	}
	entry := filepath.Join(c.dir, j.entry(key))
	if _, err := os.Stat(entry); err != nil {
		return Image{}, os.ErrNotExist
	}
	img, m, err := readEntry(entry)
	if err == nil && (m.Key != key || m.Input != j.input || m.Kind != j.target.kind()) {
		err = errors.New("it is the entry of something else")
	}
	if err != nil {
		// A missing file within an entry is damage, not absence.
		return Image{}, fmt.Errorf("nvcc: damaged cache entry %s: %s", entry, err.Error())
	}
	return img, nil
}

// readEntry reads an entry and checks its digest.
func readEntry(entry string) (Image, meta, error) {
	var m meta
	text, err := os.ReadFile(filepath.Join(entry, metaFile))
	if err != nil {
		return Image{}, m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return Image{}, m, err
	}
	if m.Kind != Cubin && m.Kind != PTX {
		return Image{}, m, fmt.Errorf("it is a %q", m.Kind)
	}
	path := filepath.Join(entry, imageFile(m.Kind))
	data, err := os.ReadFile(path)
	if err != nil {
		return Image{}, m, err
	}
	if len(data) == 0 || digest(data) != m.Digest {
		return Image{}, m, errors.New("its digest is wrong")
	}
	return Image{Data: data, Key: m.Key, Kind: m.Kind, CachePath: path, FromCache: true, Log: m.Log}, m, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Cached returns the image of a source that any compiler, the newest first, left in
// the cache. It is for machines without a compiler, to which a cache was copied. The
// error for a miss is ErrNotCached.
func Cached(src Source, target Target) (Image, error) {
	j, err := newJob(src, target)
	if err != nil {
		return Image{}, err
	}
	dir, err := privateDir()
	if err != nil {
		return Image{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Image{}, fmt.Errorf("nvcc: %w", err)
	}
	var best Image
	version := ""
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), j.stem()+".") {
			continue
		}
		img, m, err := readEntry(filepath.Join(dir, e.Name()))
		// The name and the key must be what that compiler would have made of this source.
		if err != nil || m.Input != j.input || m.Key != j.key(m.Compiler) || e.Name() != j.entry(m.Key) {
			continue
		}
		if version == "" || compareVersions(m.Compiler, version) > 0 {
			best, version = img, m.Compiler
		}
	}
	if version == "" {
		return Image{}, fmt.Errorf("nvcc: %s %s: %w %s", j.target.kind(), j, ErrNotCached, dir)
	}
	return best, nil
}
