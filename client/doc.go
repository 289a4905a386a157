// Package client is the Go SDK of cmq. It speaks the signed HTTP protocol of Tencent CMQ (API 2.0), so it works
// against any CMQ endpoint, and it uses nothing of the server's own packages.
//
// A Client is made once per endpoint and shared by all goroutines; Client.Queue gives the handle of one queue.
//
//	c, err := client.New("http://127.0.0.1:7670", secretID, secretKey)
//	q := c.Queue("orders")
//	id, err := q.Send(ctx, "hello")        // on the disks of a majority when this returns
//	m, err := q.Receive(ctx, 10*time.Second)
//	err = q.Delete(ctx, m.Handle)
//
// Every refusal of the service is an *Error (compare with errors.Is and the Err values); everything that went
// wrong on the way is a *TransportError, whose Sent field says whether the request may have been carried out.
//
// Retries: a request is repeated by itself only when that cannot do harm: when no connection could be made, when
// the service refused it for its rate, and after a broken connection when repeating it changes nothing (the
// reading actions, SetQueueAttributes). A send whose connection broke is not repeated, because the message might
// be stored twice; the caller decides.
package client
