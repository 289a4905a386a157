package compat

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// TestGoneClients: clients that go away while they wait for a message get none. The lock of the queue is so long
// that a message handed to one of them would not come back during the test.
func TestGoneClients(t *testing.T) {
	onBoth(t, func(t *testing.T, addresses []string) {
		c := newClient(t, shapes()[0], addresses)
		c.ok("CreateQueue", "queueName=q", "visibilityTimeout=43200", "pollingWaitSeconds=30")
		for round := range 3 {
			for _, address := range addresses {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				form := c.sign(address, c.parameters("ReceiveMessage", []string{"queueName=q"}))
				fmt.Fprintf(conn, "POST /v2/index.php HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", address, len(form))
				io.WriteString(conn, form)
				c.refused(7000, "(10200)no message", "ReceiveMessage", "queueName=q", "pollingWaitSeconds=1") // by then the other waits
				conn.Close()
			}
			body := fmt.Sprintf("round %d", round)
			c.ok("SendMessage", "queueName=q", "msgBody="+body)
			a := c.ok("ReceiveMessage", "queueName=q", "pollingWaitSeconds=10")
			if a.Body != body || a.DequeueCount != 1 {
				t.Errorf("round %d: %s", round, a.raw)
			}
			c.ok("DeleteMessage", "queueName=q", "receiptHandle="+a.Handle)
		}
	})
}
