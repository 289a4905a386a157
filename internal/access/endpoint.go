package access

import (
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/opencmq/cmq/internal/cmq"
)

// ParseProtocol finds the protocol with this name, whatever its case: published documents spell it in several ways. It
// refuses with ErrProtocol.
func ParseProtocol(name string) (cmq.Protocol, *cmq.Error) {
	switch p := cmq.Protocol(strings.ToLower(name)); p {
	case cmq.ProtocolHTTP, cmq.ProtocolQueue, cmq.ProtocolMail, cmq.ProtocolSMS, cmq.ProtocolFunction:
		return p, nil
	}
	return "", cmq.ErrProtocol
}

// CheckEndpoint refuses what a subscription with the protocol cannot be delivered to, whatever the network: a URL with a
// blank with ErrEndpointBlank, everything else of a wrong form with ErrEndpointFormat, and what is too long with
// ErrParameterRange. Which addresses may be connected to is decided at each delivery, because names change theirs.
func CheckEndpoint(l *cmq.Limits, protocol cmq.Protocol, endpoint string) *cmq.Error {
	if len(endpoint) > l.EndpointLength {
		return cmq.ErrParameterRange("endpoint")
	}
	switch protocol {
	case cmq.ProtocolHTTP, cmq.ProtocolFunction:
		return checkURL(endpoint)
	case cmq.ProtocolQueue:
		if cmq.ValidName(endpoint) {
			return nil
		}
	case cmq.ProtocolMail:
		if a, err := mail.ParseAddress(endpoint); err == nil && a.Address == endpoint {
			return nil
		}
	case cmq.ProtocolSMS:
		if isNumber(endpoint) {
			return nil
		}
	}
	return cmq.ErrEndpointFormat
}

// checkURL wants http:// or https://, a host, and a port that exists if there is one. A fragment is refused: it is never
// sent.
func checkURL(endpoint string) *cmq.Error {
	if strings.ContainsFunc(endpoint, unicode.IsSpace) {
		return cmq.ErrEndpointBlank
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		return cmq.ErrEndpointFormat
	}
	if text := u.Port(); text != "" {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return cmq.ErrEndpointFormat
		}
	}
	return nil
}

// isNumber reports whether text is a telephone number: "+" or nothing, and 3 to 15 digits, the most there are in E.164.
func isNumber(text string) bool {
	digits := strings.TrimPrefix(text, "+")
	return len(digits) >= 3 && len(digits) <= 15 && strings.Trim(digits, "0123456789") == ""
}
