// Package mail delivers messages as e-mail, through the SMTP server that the operator names. It asks that server to take a
// mail; what becomes of it afterwards, a bounce for example, is between the server and the receiver.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/opencmq/cmq/internal/dispatch/push"
)

// timeout bounds one mail, the connection to the server included. It is what an endpoint over HTTP has.
const timeout = 15 * time.Second

// maxSubject bounds the subject, in bytes.
const maxSubject = 200

// Server is where mails are handed in.
type Server struct {
	Addr     string // host:port
	From     string // address of the sender
	User     string // empty: no authentication
	Password string
	TLS      string // StartTLS, Always or Never
}

// When the connection is encrypted.
const (
	StartTLS = "starttls" // with the command of that name, without which nothing is sent
	Always   = "tls"      // from the beginning
	Never    = "off"      // for a server on the same machine or in the same private network
)

// Target hands mails to one server.
type Target struct {
	server Server
	host   string
	opts   []gomail.Option
}

// New makes the target. The error says what is wrong with the server's settings.
func New(s Server) (*Target, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, fmt.Errorf("the SMTP server's address %q is not host:port", s.Addr)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the SMTP server's address %q has no usable port", s.Addr)
	}
	if _, err := address(s.From); err != nil {
		return nil, fmt.Errorf("the sender of mails %q is no address", s.From)
	}
	t := &Target{server: s, host: host, opts: []gomail.Option{gomail.WithPort(int(number)), gomail.WithTimeout(timeout)}}
	switch s.TLS {
	case StartTLS:
		t.opts = append(t.opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case Always:
		t.opts = append(t.opts, gomail.WithSSL())
	case Never:
		t.opts = append(t.opts, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, fmt.Errorf("encryption of mails %q is not one of %s, %s, %s", s.TLS, StartTLS, Always, Never)
	}
	if s.User != "" {
		t.opts = append(t.opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.User), gomail.WithPassword(s.Password))
	}
	return t, nil
}

// Deliver implements push.Target. The endpoint is one address.
func (t *Target) Deliver(ctx context.Context, d *push.Delivery) error {
	to, err := address(d.Subscription.Endpoint)
	if err != nil {
		return &push.Failure{Reason: push.Invalid, Err: err}
	}
	m, err := t.message(to, d)
	if err != nil {
		return &push.Failure{Reason: push.Invalid, Err: err}
	}
	if d.Record != nil {
		d.Record.Sent = "mail to " + to + " with subject " + strings.Join(m.GetGenHeader(gomail.HeaderSubject), "")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial, end := t.dialer()
	defer end()
	c, err := gomail.NewClient(t.host, append([]gomail.Option{gomail.WithDialContextFunc(dial)}, t.opts...)...)
	if err != nil {
		return &push.Failure{Reason: push.Invalid, Err: err}
	}
	if err := c.DialAndSendWithContext(ctx, m); err != nil {
		f := &push.Failure{Reason: push.Unreachable, Err: fmt.Errorf("SMTP server %s: %w", t.server.Addr, err)}
		if errors.Is(err, context.DeadlineExceeded) {
			f.Reason = push.TimedOut
		}
		return f
	}
	return nil
}

// dialer gives what connects to the server, and what closes the connection in the end: the library leaves it open when the
// server is not what it should be.
func (t *Target) dialer() (dial gomail.DialContextFunc, end func()) {
	var conn net.Conn
	dial = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		plain := &net.Dialer{Timeout: timeout}
		if t.server.TLS == Always {
			c, err = (&tls.Dialer{NetDialer: plain, Config: &tls.Config{ServerName: t.host, MinVersion: tls.VersionTLS12}}).DialContext(ctx, network, addr)
		} else {
			c, err = plain.DialContext(ctx, network, addr)
		}
		if err == nil {
			conn = c
		}
		return c, err
	}
	return dial, func() {
		if conn != nil {
			conn.Close()
		}
	}
}

// address reads exactly one address, without a name.
func address(s string) (string, error) {
	a, err := netmail.ParseAddress(s)
	if err != nil || a.Name != "" || strings.ContainsAny(s, "\r\n<>") {
		return "", errors.New("the endpoint is not one e-mail address")
	}
	return a.Address, nil
}

// message makes the mail of one message: its body as text, what else is known in headers.
func (t *Target) message(to string, d *push.Delivery) (*gomail.Msg, error) {
	m := gomail.NewMsg()
	if err := m.From(t.server.From); err != nil {
		return nil, err
	}
	if err := m.To(to); err != nil {
		return nil, err
	}
	subject := d.Topic.Name
	if tags := d.Tags(); len(tags) > 0 {
		subject += ": " + strings.Join(tags, ", ")
	}
	m.Subject(line(subject))
	m.SetDateWithValue(d.Message.Enqueued)
	m.SetGenHeader("X-Cmq-Message-Id", d.Message.ID.String())
	m.SetGenHeader("X-Cmq-Topic", line(d.Topic.Name))
	m.SetGenHeader("X-Cmq-Subscription", line(d.Subscription.Name))
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(gomail.TypeTextPlain, strings.ToValidUTF8(string(d.Message.Body), "\ufffd"))
	return m, nil
}

// line makes what may stand in one line of a header.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), maxSubject)], "")
}
