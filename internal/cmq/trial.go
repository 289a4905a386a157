package cmq

import "time"

// Trial is what came of a test of a subscription: one delivery of a message that nobody published. It holds what the owner of
// the subscription may know, and no credentials.
type Trial struct {
	Taken  bool
	Reason string        // why it was not taken, in a word or two; empty if it was
	Status int           // of an answer over HTTP; 0: there was none
	Sent   string        // what was sent, as far as it is the owner's: a request with its head; empty if nothing was
	Took   time.Duration // until the answer
	Advice string        // what the owner can do; empty if the message was taken
}
