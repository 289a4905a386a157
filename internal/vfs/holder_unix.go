//go:build unix && !linux

package vfs

import "errors"

// Holder says which process holds the lock on a file. Here nobody tells.
func Holder(string) (pid int, err error) { return 0, errors.ErrUnsupported }
