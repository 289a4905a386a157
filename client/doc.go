// Package client is the Go SDK of cmq. It speaks the two protocols of Tencent CMQ, signed HTTP (API 2.0) and the TCP
// protocol, so it works against any CMQ endpoint, and it uses nothing of the server's own packages and nothing outside
// the standard library.
//
// A Client is made once per service and shared by all goroutines; Client.Queue and Client.Topic give handles.
//
//	c, err := client.New("tcp://127.0.0.1:7671", secretID, secretKey, client.WithEndpoints("http://127.0.0.1:7670"))
//	q := c.Queue("orders")
//	id, err := q.Send(ctx, "hello")        // on the disks of a majority when this returns
//	m, err := q.Receive(ctx, 10*time.Second)
//	err = q.Delete(ctx, m.Handle)
//
// # Which protocol
//
// Queues, topics and subscriptions are managed over HTTP; messages travel over TCP if there is an endpoint of TCP or
// the option WithTCP, else over HTTP.
//
//	endpoints        messages go                                           management
//	http             over HTTP                                             over HTTP
//	http, WithTCP    over TCP, to the addresses the service names          over HTTP
//	tcp and http     the same; to the tcp ones if it names none            over HTTP
//	tcp              over TCP, to the first that answers                   no: *NeedsEndpointError
//
// TCP costs far less processor time per message: one connection carries any number of calls, whose frames share system
// calls. A broken connection is made again; calls move to the next address meanwhile. The TCP protocol has no
// encryption of its own.
//
// # Producers and consumers
//
// A Producer sends in batches, with futures, bounded memory and back-pressure. A Consumer runs a handler for each
// message, several at once, keeps the locks of messages while handlers work on them, deletes what is done and gives
// back what failed.
//
// # Many requests under way
//
// Methods that wait need a goroutine for each request under way. A program with hundreds of them may use StartSend,
// StartReceive and StartDelete of a Queue, which call a function with the outcome: over TCP that costs about half the
// processor time. The function must not wait for anything.
//
// # Errors
//
// Every refusal of the service is an *Error (compare with errors.Is and the Err values); everything that went
// wrong on the way is a *TransportError, whose Sent field says whether the request may have been carried out. OutcomeOf
// says for any error whether a message is stored, is not, or nobody knows; Temporary whether to try again.
//
// A request is repeated by itself only when that cannot do harm: when it certainly was not carried out (no connection
// could be made, the connection broke before the request had left, the service refused it for its rate), and after a
// broken connection when repeating it changes nothing (the reading actions, SetQueueAttributes). A send whose
// connection broke is not repeated, because the message might be stored twice; the caller decides. In a Producer with Once,
// which has a session with cmq, it is repeated, and stored once.
//
// # Watching
//
// WithLogger takes a slog.Logger; WithObserver is told about each operation, with the names that OpenTelemetry uses.
package client
