//go:build !unix

package tcpapi

// readsSockets says that tryFill works.
const readsSockets = false

// tryFill lets the connection read by itself; it is not called, see newFrameReader.
func (r *frameReader) tryFill(uintptr) bool { panic("BUG: no socket is read directly on this system") }
