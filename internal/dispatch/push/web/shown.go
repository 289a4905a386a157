package web

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// mostShown bounds what is shown of a body.
const mostShown = 4 << 10

// shown is a request as people may see it: without what only the endpoint is to know, and without the end of a long body.
//
//	POST /cgi?x=1 HTTP/1.1
//	Host: test.com
//	Authorization: (not shown)
//	…
//
//	the body
func shown(r *http.Request, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nHost: %s\n", r.Method, r.URL.RequestURI(), r.URL.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		value := strings.Join(r.Header[name], ", ")
		if http.CanonicalHeaderKey(name) == "Authorization" {
			value = "(not shown)"
		}
		fmt.Fprintf(&b, "%s: %s\n", name, value)
	}
	fmt.Fprintf(&b, "Content-Length: %d\n\n", len(body))
	rest := len(body) - mostShown
	b.WriteString(strings.ToValidUTF8(string(body[:min(len(body), mostShown)]), "\ufffd"))
	if rest > 0 {
		fmt.Fprintf(&b, "\n(%d bytes more)", rest)
	}
	return b.String()
}
