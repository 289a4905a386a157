package main

import (
	"flag"
	"io"
	"net"
	"net/http"
)

// empty is the limit of signed single-message requests over HTTP: the same client as that of cmq, against a net/http server
// whose handler reads the request and gives the answer of a send that went well. It knows no keys and keeps nothing.
func init() {
	register("empty", func(c Config) (Peer, error) {
		c.Opt["http"] = "true"
		p, err := newCMQ(c)
		return emptyPeer{p}, err
	})
}

type emptyPeer struct{ *cmqPeer }

func (emptyPeer) Setup() error            { return nil }
func (emptyPeer) Depth() (int64, error)   { return 0, nil }
func (emptyPeer) Leader() (string, error) { return "n1", nil }

// Consumer fails: what nobody keeps cannot be received.
func (emptyPeer) Consumer(int, int) (Consumer, error) { return nil, errNoConsume }

// emptyAnswer has the fields of a SendMessage, and ids as long as cmq's.
const emptyAnswer = `{"code":0,"message":"","requestId":"1234567890123456789","msgId":"1234567890123456789"}`

// emptyMain is "bench http-empty": the server.
func emptyMain(args []string) {
	fs := flag.NewFlagSet("http-empty", flag.ExitOnError)
	listen := fs.String("listen", "127.0.0.1:7761", "address")
	fs.Parse(args)
	l, err := net.Listen("tcp", *listen)
	check(err)
	answer := []byte(emptyAnswer)
	check(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(answer)
	})))
}
