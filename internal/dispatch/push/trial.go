package push

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Record is what a target notes of a delivery for the owner of its subscription: nothing that is the operator's, such as
// the address of a mail server, and no credentials.
type Record struct {
	Sent   string // what was sent; empty: nothing was
	Status int    // of an answer over HTTP; 0: there was none
}

// Trial delivers a message that nobody published, so that who subscribes sees at once whether the endpoint takes it. Nothing
// is stored, counted or tried again; a circuit that is open, a rate and a pause of the subscription are not looked at.
func (d *Dispatcher) Trial(ctx context.Context, o Outlet, body []byte) *cmq.Trial {
	var r Record
	begin := time.Now()
	f := d.test(ctx, o, body, &r)
	t := &cmq.Trial{Taken: f == nil, Sent: r.Sent, Status: r.Status, Took: time.Since(begin)}
	if f != nil {
		t.Reason, t.Advice = string(f.Reason), f.advice()
		if p := o.Subscription.Protocol; f.Reason != Invalid && (p == cmq.ProtocolMail || p == cmq.ProtocolSMS) {
			t.Advice = "The service could not hand the message to the server for this protocol that its operator has named. Tell the operator: the reason is in the log, at level debug."
		}
	}
	return t
}

// test makes the delivery of a trial; nil: it was taken.
func (d *Dispatcher) test(ctx context.Context, o Outlet, body []byte, r *Record) *Failure {
	target, err := d.target(o.Subscription)
	if err != nil {
		return failureOf(err)
	}
	m := &cmq.Message{Body: body, Enqueued: time.Now(), DequeueCount: 1, Publication: &cmq.Publication{}}
	err = target.Deliver(ctx, &Delivery{Request: rand.Uint64N(1 << 53), Topic: o.Topic, Subscription: o.Subscription, Message: m, Record: r})
	if err != nil {
		return failureOf(err)
	}
	return nil
}

// advice is what the owner of the subscription can do about the failure.
func (f *Failure) advice() string {
	switch f.Reason {
	case Invalid:
		return "The endpoint is none that this protocol can deliver to from here. Look at its spelling, and subscribe anew with the right one: an endpoint cannot be changed."
	case Refused:
		return "Deliveries to this address are not allowed: it is in a private or reserved range, or one of the service itself. Use a public address, or ask the operator to list it in push.allow."
	case Unresolved:
		return "The name of the host has no address that the service can find. Look at its spelling and at its DNS records."
	case Unreachable:
		return "There was no connection, or it broke before an answer came. See that the endpoint listens on this port, that firewalls let the service in, and that it speaks TLS if and only if its URL begins with https."
	case Certificate:
		return "The endpoint's certificate is not good: it has expired, is for another name, or is signed by nobody who is known. Renew it, send its whole chain, or give its authority with ca."
	case TimedOut:
		return "There was no answer within 15 s. Take the message, answer 200 at once, and work on it afterwards."
	}
	return adviceOn(f.Status)
}

// adviceOn is what to do about the status of an answer.
func adviceOn(status int) string {
	switch {
	case status >= 300 && status < 400:
		return "Redirects are not followed. Subscribe with the URL that it leads to."
	case status == 401 || status == 403:
		return "The endpoint wants other credentials. Put user name and password into the URL (http://USER:PASSWORD@HOST/), or let it check the signature of pushSecret."
	case status == 404 || status == 410:
		return "There is nothing at this path. Look at the path of the URL."
	case status == 405:
		return "The endpoint does not take POST. Deliveries are made with POST."
	case status == 413:
		return "The endpoint does not take a body this long. Raise its limit, or lower maxMsgSize of the topic."
	case status == 415:
		return "The endpoint does not take this content type. Look at notifyContentFormat, or let it accept what was sent."
	case status == 429 || status == 503:
		return "The endpoint has too much to do. Lower rateLimit or concurrency of the subscription; Retry-After is kept to."
	}
	return "The endpoint has to answer with a status of 2xx. Its own log says why it does not."
}
