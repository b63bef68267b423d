package rendezvous

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Environment variables of the secret.
const (
	TokenEnv     = "MOEGEN_TOKEN"       // the secret itself
	TokenFileEnv = "MOEGEN_TOKEN_FILE"  // a file that holds it
	DirEnv       = "MOEGEN_RUNTIME_DIR" // the private directory, see PrivateDir
)

// MinToken is the least length of a secret, in bytes. Whoever can listen in or
// dial can try guesses at leisure: take a random one (openssl rand -hex 32).
const MinToken = 16

// LoadSecret returns the group's secret: token if it is not empty, else
// MOEGEN_TOKEN, else what is in the file MOEGEN_TOKEN_FILE, which must not be
// open to other users. If there is none of them, it is a key that is made once
// for each user and host, in PrivateDir, and loopback is true: such a group must
// not listen on anything but loopback.
func LoadSecret(token string, getenv func(string) string) (secret []byte, loopback bool, err error) {
	source := "Config.Token"
	if token == "" {
		source, token = TokenEnv, getenv(TokenEnv)
	}
	if path := getenv(TokenFileEnv); token == "" && path != "" {
		source = path
		if token, err = readSecret(path); err != nil {
			return nil, false, fmt.Errorf("%s: %w", TokenFileEnv, err)
		}
	}
	if token != "" {
		if len(token) < MinToken {
			return nil, false, fmt.Errorf("the secret in %s has %d bytes: at least %d are needed; openssl rand -hex 32 makes a good one", source, len(token), MinToken)
		}
		return []byte(token), false, nil
	}
	secret, err = userKey()
	return secret, true, err
}

func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s has mode %v: want a file that other users cannot open (chmod 600)", path, info.Mode())
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// userKey reads the user's key on this host, and makes it at first.
func userKey() ([]byte, error) {
	dir, err := PrivateDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) >= MinToken {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Complete before it has the name; of several ranks one wins.
	f, err := os.CreateTemp(dir, "key-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(rand.Text() + rand.Text())
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if key, err = os.ReadFile(path); err == nil && len(key) < MinToken {
		err = fmt.Errorf("%s is damaged: remove it", path)
	}
	return key, err
}

// PrivateDir returns a directory that belongs to the user and that nobody else
// can enter, and makes it if need be: MOEGEN_RUNTIME_DIR, else moegen in
// XDG_RUNTIME_DIR, else moegen-UID in the directory for temporary files. It is
// an error if it is somebody else's, open to others, or a link.
func PrivateDir() (string, error) {
	dir := os.Getenv(DirEnv)
	if dir == "" {
		if x := os.Getenv("XDG_RUNTIME_DIR"); x != "" {
			dir = filepath.Join(x, "moegen")
		} else {
			dir = filepath.Join(os.TempDir(), fmt.Sprintf("moegen-%d", os.Getuid()))
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("the private directory: %w; set %s to another", err, DirEnv)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("the private directory: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !owned(info) {
		return "", fmt.Errorf("%s (%v) is not a directory of this user's own that nobody else can enter: remove it, chmod 700 it, or set %s to another", dir, info.Mode(), DirEnv)
	}
	return dir, nil
}
