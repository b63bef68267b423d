package nvcc

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
)

// Image is a compiled source.
type Image struct {
	Data      []byte
	Key       string // cache key: compiler version, flags, source
	Kind      Kind
	CachePath string // the image's file in the cache; empty when it could not be stored
	FromCache bool   // it was in the cache already, or another process was compiling it
	Log       string // what the compiler said, without paths of temporary files
	Warnings  []string
}

// clone is for handing one image to several callers, who may change what they get.
func (i Image) clone() Image {
	i.Data = bytes.Clone(i.Data)
	i.Warnings = append([]string(nil), i.Warnings...)
	return i
}

// checkImage reports an image that is not whole. nvcc exits with success when the disk
// fills up while the assembler writes, so its word is not enough.
func checkImage(data []byte, kind Kind) error {
	if len(data) == 0 {
		return errors.New("an empty file")
	}
	if kind == PTX {
		return checkPTX(data)
	}
	return checkCubin(data)
}

// checkCubin checks that every section of the ELF file lies within it.
func checkCubin(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("not a cubin: %w", err)
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS && (s.Offset > uint64(len(data)) || s.FileSize > uint64(len(data))-s.Offset) {
			return fmt.Errorf("a cubin whose section %s is cut off", s.Name)
		}
	}
	return nil
}
