package route

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

// Serve is the other side of Remote: it carries out a request that another node's Router sent, at this node's
// replica or not at all; it never forwards. The reply tells every outcome. An error means that the payload is
// not a request this program understands.
//
// ctx must end when the caller gives up, so that no message is locked for a poll that nobody waits for.
func (r *Router) Serve(ctx context.Context, _ cmq.NodeID, payload []byte) ([]byte, error) {
	set, req, err := decodeRequest(payload)
	if err != nil {
		return nil, err
	}
	reply, err := r.cfg.Local.Do(ctx, set, req)
	if err != nil {
		return encodeError(err), nil
	}
	return encodeReply(reply), nil
}
