package httpapi

import (
	"log/slog"
	"net/http"
	"time"
)

// Bounds of a connection. Bodies and answers have deadlines of their own (body.go, reply.go).
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 6 * time.Minute // a widespread client keeps connections for 5: let it be the one to close
	maxHeader     = 64 << 10        // bytes; a query is part of it
)

// NewServer makes a server for the door. The caller gives it listeners, and stops it.
func (d *Door) NewServer() *http.Server {
	longest := time.Duration(d.config.Limits.PollingWaitSeconds.Max) * time.Second
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      d,
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true, // the door answers every method itself
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  headerTimeout + bodyTimeout, // from the first byte to the last, unless the body is long
		WriteTimeout:                 longest + 3*bodyTimeout,     // counted from the header on; only a backstop
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		ConnContext:                  withPeer,
		ConnState:                    d.connState,
		ErrorLog:                     slog.NewLogLogger(d.config.Logger.Handler(), slog.LevelDebug),
	}
}
