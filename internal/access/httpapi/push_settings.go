package httpapi

import (
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/opencmq/cmq/internal/cmq"
)

// pushSettings reads the attributes of subscriptions that the published service does not have (docs/api.md). Unlike in the
// published ones an empty text says something: it takes away what was set before.
func (c *call) pushSettings(s *cmq.SubscriptionSettings) (err error) {
	l := &c.door.config.Limits
	if s.Secret, err = c.secret(l.PushSecret); err != nil {
		return err
	}
	if s.Rate, err = c.integer("rateLimit", l.PushRate); err != nil {
		return err
	}
	if s.Concurrency, err = c.integer("concurrency", l.PushConcurrency); err != nil {
		return err
	}
	if s.Ordered, err = c.boolean("ordered"); err != nil {
		return err
	}
	if s.Paused, err = c.boolean("paused"); err != nil {
		return err
	}
	if s.DeadLetter, err = c.nameOrNone("deadLetterQueueName", cmq.ErrQueueName); err != nil {
		return err
	}
	if s.CA, err = c.certificates("ca", l.CALength); err != nil {
		return err
	}
	s.Agent, err = c.nameOrNone("agent", cmq.ErrParameterRange("agent"))
	return err
}

// secret reads the key that signs deliveries; empty means that they are not signed.
func (c *call) secret(length cmq.Range) (*string, error) {
	value, err := c.find("pushSecret")
	if err != nil || value == nil {
		return nil, err
	}
	if len(value) > 0 && !length.Holds(int64(len(value))) {
		return nil, cmq.ErrParameterRange("pushSecret")
	}
	secret := string(value)
	return &secret, nil
}

// nameOrNone reads the name of something; empty means none.
func (c *call) nameOrNone(parameter string, malformed *cmq.Error) (*string, error) {
	value, err := c.find(parameter)
	if err != nil || value == nil {
		return nil, err
	}
	if len(value) > 0 && !cmq.ValidName(value) {
		return nil, malformed
	}
	name := string(value)
	return &name, nil
}

// certificates reads PEM text with nothing but certificates in it, at least one; empty means none.
func (c *call) certificates(name string, longest int) (*string, error) {
	value, err := c.find(name)
	if err != nil || value == nil {
		return nil, err
	}
	if len(value) > longest || len(value) > 0 && !areCertificates(value) {
		return nil, cmq.ErrParameterRange(name)
	}
	text := string(value)
	return &text, nil
}

func areCertificates(text []byte) bool {
	for {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return false
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
		if text = rest; strings.TrimSpace(string(rest)) == "" {
			return true
		}
	}
}

// pushAttributes writes those of them that are set. The secret is not among them: nobody gets it back.
func (c *call) pushAttributes(p *cmq.PushAttributes) {
	c.set("pushSigned", p.Secret != "")
	if p.Rate > 0 {
		c.number("rateLimit", int64(p.Rate))
	}
	if p.Concurrency > 0 {
		c.number("concurrency", int64(p.Concurrency))
	}
	c.set("ordered", p.Ordered)
	c.set("paused", p.Paused)
	if p.DeadLetter != 0 {
		c.text("deadLetterQueueName", p.DeadLetterName)
	}
	if p.CA != "" {
		c.text("ca", p.CA)
	}
	if p.Agent != "" {
		c.text("agent", p.Agent)
		if p.Agents >= 0 {
			c.number("agents", int64(p.Agents))
		}
	}
}
