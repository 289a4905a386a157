package httpapi

import (
	"context"
	"slices"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) subscribe(ctx context.Context) error {
	topic, name, err := c.subscription()
	if err != nil {
		return err
	}
	protocol, endpoint, err := c.target()
	if err != nil {
		return err
	}
	settings, err := c.subscriptionSettings()
	if err != nil {
		return err
	}
	if err := c.checkTarget(protocol, endpoint, &settings); err != nil {
		return err
	}
	settings.Protocol, settings.Endpoint = &protocol, &endpoint
	id, err := c.backend().Subscribe(ctx, c.owner, topic, name, settings)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.text("subscriptionId", id.String())
	return nil
}

// setSubscriptionAttributes changes what is given. One client adds protocol and endpoint, which cannot be changed.
func (c *call) setSubscriptionAttributes(ctx context.Context) error {
	topic, name, err := c.subscription()
	if err != nil {
		return err
	}
	settings, err := c.subscriptionSettings()
	if err != nil {
		return err
	}
	if err := c.backend().SetSubscriptionAttributes(ctx, c.owner, topic, name, settings); err != nil {
		return err
	}
	c.envelope(nil)
	return nil
}

// target reads where the subscription delivers. Some clients have "protocal" in their programs.
func (c *call) target() (protocol cmq.Protocol, endpoint string, err error) {
	name, err := c.find("protocal")
	if name == nil && err == nil {
		name, err = c.required("protocol")
	}
	if err != nil {
		return "", "", err
	}
	to, err := c.required("endpoint")
	if err != nil {
		return "", "", err
	}
	protocol, refusal := access.ParseProtocol(string(name))
	switch {
	case refusal != nil:
	case !slices.Contains(c.door.config.Protocols, protocol):
		refusal = cmq.ErrProtocol
	default:
		refusal = access.CheckEndpoint(&c.door.config.Limits, protocol, string(to))
	}
	if refusal != nil {
		return "", "", refusal
	}
	return protocol, string(to), nil
}

// checkTarget asks whether the server would deliver there.
func (c *call) checkTarget(protocol cmq.Protocol, endpoint string, s *cmq.SubscriptionSettings) error {
	allow := c.door.config.Endpoint
	if allow == nil || protocol != cmq.ProtocolHTTP && protocol != cmq.ProtocolFunction || s.Agent != nil && *s.Agent != "" {
		return nil
	}
	if allow(endpoint) != nil {
		return cmq.ErrEndpoint // not why: that would tell about the server's network
	}
	return nil
}

// subscriptionSettings reads the attributes that Subscribe and SetSubscriptionAttributes have in common. Clients send
// strategy and format empty when they do not want to say anything about them. A queue gets the body as it is whatever the
// format: some clients send JSON with every protocol.
func (c *call) subscriptionSettings() (s cmq.SubscriptionSettings, err error) {
	if s.Strategy, err = word(c, "notifyStrategy", cmq.ErrStrategy, cmq.BackoffRetry, cmq.ExponentialRetry); err != nil {
		return s, err
	}
	if s.Format, err = word(c, "notifyContentFormat", cmq.ErrFormat, cmq.FormatJSON, cmq.FormatSimplified, cmq.FormatCloudEvents); err != nil {
		return s, err
	}
	l := &c.door.config.Limits
	if s.Tags, err = c.filter(spellings("filterTag", "filterTags"), l.Tags, cmq.ErrFilterTags, access.CheckTag); err != nil {
		return s, err
	}
	if s.Keys, err = c.filter(spellings("bindingKey", "bindindKey"), l.BindingKeys, cmq.ErrBindingKeys, access.CheckBindingKey); err != nil {
		return s, err
	}
	err = c.pushSettings(&s)
	return s, err
}

// word reads an optional parameter that is one of some words; nil if it is not there or empty.
func word[T ~string](c *call, name string, undefined *cmq.Error, words ...T) (*T, error) {
	value, err := c.find(name)
	if err != nil || len(value) == 0 {
		return nil, err
	}
	for _, w := range words {
		if string(value) == string(w) {
			return &w, nil
		}
	}
	return nil, undefined
}

// spellings are those of a list of tags or keys: as documented, as one client misspells it, and as the C++ client writes
// it when it subscribes: "filterTag,1".
func spellings(name, misspelt string) []spelling {
	return []spelling{{name, '.'}, {misspelt, '.'}, {name, ','}}
}

// filter reads the list of tags or keys in the first of its spellings that is there; nil if none is.
func (c *call) filter(spellings []spelling, most int, tooMany *cmq.Error, check func(*cmq.Limits, string, []byte) *cmq.Error) (*[]string, error) {
	for _, as := range spellings {
		list, err := c.spelt(as, most)
		switch {
		case err == errTooMany:
			return nil, tooMany
		case err != nil:
			return nil, err
		case len(list) == 0:
			continue
		}
		for _, entry := range list {
			if refusal := check(&c.door.config.Limits, as.name, entry); refusal != nil {
				return nil, refusal
			}
		}
		texts := access.Texts(list)
		return &texts, nil
	}
	return nil, nil
}
