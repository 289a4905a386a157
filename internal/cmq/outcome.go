package cmq

import (
	"errors"
	"fmt"
)

// NotLeaderError answers a request that reached a replica which does not lead its set. The request was not
// carried out; it may be sent again, best to Leader.
type NotLeaderError struct {
	Set    SetID
	Leader NodeID // 0: not known
}

// Error says which set was asked and who leads it, if that is known.
func (e *NotLeaderError) Error() string {
	if e.Leader == 0 {
		return fmt.Sprintf("set %d: this node does not lead and knows no leader", e.Set)
	}
	return fmt.Sprintf("set %d: node %d leads", e.Set, e.Leader)
}

// ErrDropped answers a request that certainly was not and will not be carried out: leadership changed
// before it was stored. It may be sent again.
var ErrDropped = errors.New("dropped by a change of leader; nothing was stored")

// ErrUnknownOutcome answers a request that may or may not have been carried out.
var ErrUnknownOutcome = errors.New("the connection or the leader was lost; the request may or may not have been carried out")

// ErrBusy answers a request that was refused because too much is waiting already. It may be sent again.
var ErrBusy = errors.New("too much is waiting for this set")

// ErrStopping answers a request that reached a node on its way down. It was not carried out.
var ErrStopping = errors.New("the node is stopping")
