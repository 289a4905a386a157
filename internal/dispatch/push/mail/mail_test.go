package mail

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
)

// smtp is a server that takes one mail, or refuses it after the command.
func smtp(t *testing.T, refuse string) (addr string, mail chan string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	mail = make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in, talk := bufio.NewScanner(c), []string{}
		fmt.Fprint(c, "220 test ESMTP\r\n")
		for data := false; in.Scan(); {
			talk = append(talk, in.Text())
			verb := strings.ToUpper(strings.SplitN(in.Text(), " ", 2)[0])
			switch {
			case data && in.Text() == ".":
				data = false
				fmt.Fprint(c, "250 taken\r\n")
				mail <- strings.Join(talk, "\n")
			case data:
			case verb == refuse:
				fmt.Fprint(c, "550 no\r\n")
			case verb == "EHLO":
				fmt.Fprint(c, "250-test\r\n250 8BITMIME\r\n")
			case verb == "DATA":
				data = true
				fmt.Fprint(c, "354 go on\r\n")
			case verb == "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
				return
			default:
				fmt.Fprint(c, "250 ok\r\n")
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return l.Addr().String(), mail
}

func delivery(to string) *push.Delivery {
	return &push.Delivery{
		Topic: &cmq.Topic{Owner: "1", Name: "paid"}, Subscription: &cmq.Subscription{Name: "shop", Protocol: cmq.ProtocolMail, Endpoint: to},
		Message: &cmq.Message{ID: 7, Body: []byte("order 1\nis paid"), Enqueued: time.Unix(1_700_000_000, 0), Publication: &cmq.Publication{Tags: []string{"a\r\nBcc: x@y.example", "b"}}},
	}
}

func TestMailIsHandedIn(t *testing.T) {
	addr, mail := smtp(t, "")
	target, err := New(Server{Addr: addr, From: "cmq@shop.example", TLS: Never})
	require.NoError(t, err)
	require.NoError(t, target.Deliver(t.Context(), delivery("ops@shop.example")))
	got := <-mail
	for _, want := range []string{"MAIL FROM:<cmq@shop.example>", "RCPT TO:<ops@shop.example>", "Subject: paid: a  Bcc: x@y.example, b", "X-Cmq-Message-Id: 7", "X-Cmq-Subscription: shop", "order 1\nis paid"} {
		require.Contains(t, got, want)
	}
	require.NotContains(t, got, "\nBcc:")
}

func TestMailIsRefused(t *testing.T) {
	addr, _ := smtp(t, "RCPT")
	target, err := New(Server{Addr: addr, From: "cmq@shop.example", TLS: Never})
	require.NoError(t, err)
	var f *push.Failure
	require.ErrorAs(t, target.Deliver(t.Context(), delivery("ops@shop.example")), &f)
	require.Equal(t, push.Unreachable, f.Reason)
	require.ErrorContains(t, f, "550")
}

// TestNothingIsSentInTheClear: a server that does not offer encryption gets nothing unless that is what the operator wants.
func TestNothingIsSentInTheClear(t *testing.T) {
	addr, mail := smtp(t, "")
	target, err := New(Server{Addr: addr, From: "cmq@shop.example", User: "u", Password: "hunter2", TLS: StartTLS})
	require.NoError(t, err)
	err = target.Deliver(t.Context(), delivery("ops@shop.example"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	require.Empty(t, mail)
}

func TestEndpointsThatAreNoAddress(t *testing.T) {
	target, err := New(Server{Addr: "127.0.0.1:25", From: "cmq@shop.example", TLS: Never})
	require.NoError(t, err)
	for _, to := range []string{"", "ops", "a@b.example, c@d.example", "Ops <ops@shop.example>", "ops@shop.example\r\nRCPT TO:<x@y.example>", "<ops@shop.example>"} {
		var f *push.Failure
		require.ErrorAs(t, target.Deliver(t.Context(), delivery(to)), &f, to)
		require.Equal(t, push.Invalid, f.Reason, to)
	}
}

func TestSettingsThatAreWrong(t *testing.T) {
	for want, s := range map[string]Server{
		`"smtp.example" is not host:port`: {Addr: "smtp.example", From: "a@b.example", TLS: Never},
		`"smtp.example:x" has no usable`:  {Addr: "smtp.example:x", From: "a@b.example", TLS: Never},
		`"cmq" is no address`:             {Addr: "smtp.example:25", From: "cmq", TLS: Never},
		`"yes" is not one of starttls`:    {Addr: "smtp.example:25", From: "a@b.example", TLS: "yes"},
	} {
		_, err := New(s)
		require.ErrorContains(t, err, want)
	}
}
