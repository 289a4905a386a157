package auth

import (
	"bytes"
	"slices"
)

// Param is one request parameter, decoded.
type Param struct{ Name, Value []byte }

// Sort orders parameters as the signature wants them: by the bytes of their names.
func Sort(params []Param) {
	slices.SortFunc(params, func(a, b Param) int { return bytes.Compare(a.Name, b.Name) })
}

// Find gives the value of the named parameter of a sorted list.
func Find(params []Param, name string) ([]byte, bool) {
	for i := range params {
		if string(params[i].Name) == name {
			return params[i].Value, true
		}
	}
	return nil, false
}

// appendTail appends the part of the string to sign that follows the path:
//
//	?name=value&name=value…   in the order of params, raw values, '_' in names written as '.', no Signature
//
// With skipAt, message bodies and tags whose value begins with '@' are left out (see Verify). It reports
// whether there was any.
func appendTail(to []byte, params []Param, skipAt bool) (tail []byte, skipped bool) {
	separator := byte('?')
	for i := range params {
		p := &params[i]
		if string(p.Name) == "Signature" {
			continue
		}
		if skipAt && len(p.Value) > 0 && p.Value[0] == '@' && mayHide(p.Name) {
			skipped = true
			continue
		}
		to = append(to, separator)
		separator = '&'
		start := len(to)
		to = append(to, p.Name...)
		for j := start; j < len(to); j++ {
			if to[j] == '_' {
				to[j] = '.'
			}
		}
		to = append(to, '=')
		to = append(to, p.Value...)
	}
	if separator == '?' {
		to = append(to, '?')
	}
	return to, skipped
}

// mayHide says which parameters the '@' rule may leave unsigned: contents of messages, tags and keys, never the
// names of resources. A list entry is the name, '.' and anything.
func mayHide(name []byte) bool {
	if dot := bytes.IndexByte(name, '.'); dot >= 0 {
		name = name[:dot]
	}
	switch string(name) {
	case "msgBody", "msgTag", "filterTag", "bindingKey", "bindindKey", "routingKey":
		return true
	}
	return false
}

// candidates calls try with every host and path the client may have signed, most likely first, until it
// returns true. Clients sign the host they were configured with, which may name a default port that is not in
// the Host header or lack one that is, or be an alias of a proxy; and "/v2/index.php" or "/" whatever the path.
func candidates(r *Request, aliases []string, try func(host, path string) bool) bool {
	hosts := [4]string{r.Host}
	n := 1
	name, port := splitPort(r.Host)
	suffixes := [...]string{":80", ":443"}
	for _, suffix := range suffixes {
		if port == "" {
			hosts[n] = name + suffix
			n++
		} else if port == suffix {
			hosts[n] = name
			n++
		}
	}
	for _, host := range hosts[:n] {
		if tryPaths(host, r.Path, try) {
			return true
		}
	}
	for _, host := range aliases {
		if host != r.Host && tryPaths(host, r.Path, try) {
			return true
		}
	}
	return false
}

// Paths that clients sign.
const (
	classicPath = "/v2/index.php"
	rootPath    = "/"
)

func tryPaths(host, path string, try func(host, path string) bool) bool {
	return try(host, path) ||
		path != classicPath && try(host, classicPath) ||
		path != rootPath && try(host, rootPath)
}

// splitPort cuts ":port" off a Host header; an IPv6 address keeps its brackets.
func splitPort(host string) (name, port string) {
	for i := len(host) - 1; i >= 0; i-- {
		switch c := host[i]; {
		case c == ':':
			return host[:i], host[i:]
		case c < '0' || c > '9':
			return host, ""
		}
	}
	return host, ""
}
