package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// Transport carries one form to an endpoint and brings back the body of the answer. Errors made with NotSent
// say that nothing of the request left; after any other error the request may have been carried out.
// Implementations are safe for concurrent use.
type Transport interface {
	// RoundTrip appends the answer to dst and returns the result.
	RoundTrip(ctx context.Context, to Address, form, dst []byte) ([]byte, error)
	// Close lets go of idle connections.
	Close() error
}

// Address is one endpoint, taken apart once.
type Address struct {
	URL  string // "http://127.0.0.1:7670/v2/index.php"
	Host string // "127.0.0.1:7670" as signed and sent in the Host header
	Path string // "/v2/index.php" as signed and sent
	TLS  bool
}

// maxAnswer bounds what is read of an answer: sixteen bodies of 1 MiB, each byte escaped to six, is the largest.
const maxAnswer = 128 << 20

// httpTransport is the default: net/http, with its proxies, TLS and HTTP/2.
type httpTransport struct{ c *http.Client }

func (t httpTransport) RoundTrip(ctx context.Context, to Address, form, dst []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(form))
	if err != nil {
		return dst, NotSent(err)
	}
	req.Header.Set("Content-Type", formType)
	resp, err := t.c.Do(req)
	if err != nil {
		if isDialError(err) {
			err = NotSent(err)
		}
		return dst, err
	}
	defer resp.Body.Close()
	buf := bytes.NewBuffer(dst)
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return dst, err
	}
	if resp.StatusCode != http.StatusOK {
		return dst, fmt.Errorf("HTTP status %s; is this a CMQ endpoint?", resp.Status)
	}
	return buf.Bytes(), nil
}

func (t httpTransport) Close() error {
	t.c.CloseIdleConnections()
	return nil
}
