package tcpapi

import "github.com/opencmq/cmq/internal/cmq"

// Results that the published client knows by their numbers, which are not those of the catalogue.
const (
	resultNotAuthorized = 306 // it closes the connection and logs in on a new one
	resultAuthorized    = 307 // the same as success

	textNotAuthorized = "connection is not authenticated"
	textAuthorized    = "connection is already authenticated"
)

// maxAttempts is how often a connection may fail to log in.
const maxAttempts = 16

// auth carries out command 1020. A connection that fails stays open and may try again; one that has logged in may do it
// again, and as somebody else.
func (c *conn) auth() error {
	e := &c.envelope
	var v authView
	refused := c.body(fieldAuth, "tcp_auth", &v)
	if missing := v.missing(); refused == nil && missing != "" {
		refused = cmq.ErrParameterMissing(missing)
	}
	if refused != nil {
		c.plain(refusal(e.seqno, e.cmd, refused))
		return c.failed()
	}
	if c.session != nil && string(v.secretID) == c.session.KeyID() && c.door.verifier.Holds(c.session) {
		c.plain(head{e.seqno, e.cmd, resultAuthorized, textAuthorized})
		return nil
	}
	session, refused := c.door.verifier.Connect(v.secretID, v.clientID, v.signature, v.method)
	if refused != nil {
		c.plain(refusal(e.seqno, e.cmd, refused))
		return c.failed()
	}
	c.session, c.attempts = session, 0
	c.reader.limit = c.door.maxFrame
	c.door.census.known(c)
	c.plain(head{seqno: e.seqno, cmd: e.cmd})
	return nil
}

func (c *conn) failed() error {
	if c.attempts++; c.attempts >= maxAttempts {
		return errAttempts
	}
	return nil
}
