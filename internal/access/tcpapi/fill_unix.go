//go:build unix

package tcpapi

import (
	"io"
	"syscall"
)

// readsSockets says that tryFill works.
const readsSockets = true

// tryFill reads what is there. It reports false if nothing is, and then holds no chunk, so that thousands of connections
// that only wait cost no buffers.
func (r *frameReader) tryFill(fd uintptr) bool {
	r.chunk = r.chunks.get()
	for {
		r.n, r.err = syscall.Read(int(fd), r.chunk[:])
		switch {
		case r.err == syscall.EINTR:
			continue
		case r.err == syscall.EAGAIN:
			r.drop()
			return false
		case r.err == nil && r.n == 0:
			r.err = io.EOF
		}
		return true
	}
}
