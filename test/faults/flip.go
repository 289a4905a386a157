//go:build linux

package faults

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Flip is one byte of a file that was changed.
type Flip struct {
	File     string
	Offset   int64
	Was, Now byte
}

// NewFlip changes the byte at this place by the bits of mask, which is not 0. The file may be open in any process: who
// reads it next gets the changed byte.
func NewFlip(t testing.TB, file string, offset int64, mask byte) Flip {
	t.Helper()
	flip, err := TryFlip(file, offset, mask)
	require.NoError(t, err)
	return flip
}

// TryFlip is NewFlip for a file that may be gone; the error says so.
func TryFlip(file string, offset int64, mask byte) (Flip, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return Flip{}, err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		return Flip{}, err
	}
	flip := Flip{File: file, Offset: offset, Was: b[0], Now: b[0] ^ mask}
	_, err = f.WriteAt([]byte{flip.Now}, offset)
	return flip, err
}

// There tells whether the file exists and still has the changed byte.
func (f Flip) There() bool {
	file, err := os.Open(f.File)
	if err != nil {
		return false
	}
	defer file.Close()
	b := make([]byte, 1)
	_, err = file.ReadAt(b, f.Offset)
	return err == nil && b[0] == f.Now
}
