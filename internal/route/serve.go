package route

import "github.com/opencmq/cmq/internal/cmq"

// Serve is the other side of Remote: it carries out a request that another node's Router sent, at this node's
// replica or not at all; it never forwards. The reply tells every outcome. An error means that the payload is
// not a request this program understands.
//
// reply reports false when nobody waits for the reply any more; messages that were locked for it are then released.
// What Serve returns must be cancelled when the caller gives up, so that no message is locked for a poll that nobody
// waits for.
func (r *Router) Serve(_ cmq.NodeID, payload []byte, reply func([]byte, error) bool) cmq.Pending {
	set, req, err := decodeRequest(payload)
	if err != nil {
		reply(nil, err)
		return cmq.Answered{}
	}
	return r.cfg.Local.Start(set, req, func(answer *cmq.Reply, err error) {
		if err != nil {
			reply(encodeError(err), nil)
			return
		}
		if !reply(encodeReply(answer), nil) {
			undo(req, answer, func(undo *cmq.Request) { r.cfg.Local.Start(set, undo, func(*cmq.Reply, error) {}) })
		}
	})
}
