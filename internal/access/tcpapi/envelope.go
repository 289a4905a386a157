package tcpapi

import "google.golang.org/protobuf/encoding/protowire"

// Commands.
const (
	cmdAuth         = 1020
	cmdSend         = 1021
	cmdBatchSend    = 1022
	cmdReceive      = 1023
	cmdBatchReceive = 1024
	cmdDelete       = 1025
	cmdBatchDelete  = 1026
	cmdPublish      = 1027
	cmdBatchPublish = 1028
	cmdHeartbeat    = 1040
	cmdConfirm      = 1041
	cmdQuery        = 1042 // only from the server to a client

	cmdChangeVisibility = 10001 // ours
	cmdStopWaiting      = 10002 // ours
	cmdOpenSession      = 10003 // ours
)

// Fields of CMQProto. Those from 10000 on are kept for extensions of ours.
const (
	fieldSeqno   = 1
	fieldCmd     = 2
	fieldResult  = 3
	fieldError   = 4
	fieldOneWay  = 9
	firstBody    = 20 // numbers from here on are bodies of commands
	fieldPulled  = 26
	fieldPulls   = 27
	fieldDeleted = 28
	fieldMsgIDs  = 29

	fieldAuth         = 199
	fieldSend         = 200
	fieldBatchSend    = 201
	fieldReceive      = 202
	fieldBatchReceive = 204
	fieldDelete       = 206
	fieldBatchDelete  = 207
	fieldPublish      = 208
	fieldBatchPublish = 209
	fieldConfirm      = 221
	fieldConfirmed    = 222
	fieldQuery        = 223

	fieldChangeVisibility = 10001
	fieldStopWaiting      = 10002
	fieldOpenSession      = 10003
	fieldSessionEpoch     = 10004

	fieldSession = 10000 // of the body of a send
)

// envelope is a view of a CMQProto that arrived. Its body aliases the frame.
type envelope struct {
	frame  []byte
	seqno  int64
	cmd    int32
	oneWay int32

	body   []byte           // the last body
	num    protowire.Number // its field
	bodies int              // how many there are
}

// parse reads the envelope. The bodies are only looked for. An envelope without seqno or cmd is an error.
func (e *envelope) parse(frame []byte) error {
	*e = envelope{frame: frame}
	var hasSeqno, hasCmd bool
	f := fields{rest: frame}
	for f.next() {
		switch {
		case f.isInt(fieldSeqno):
			e.seqno, hasSeqno = int64(f.int), true
		case f.isInt(fieldCmd):
			e.cmd, hasCmd = int32(f.int), true
		case f.isInt(fieldOneWay):
			e.oneWay = int32(f.int)
		case f.num >= firstBody && f.typ == protowire.BytesType:
			e.body, e.num = f.data, f.num
			e.bodies++
		}
	}
	if f.err != nil {
		return f.err
	}
	if !hasSeqno || !hasCmd {
		return errWire
	}
	return nil
}

// own makes the body independent of the frame's memory.
func (e *envelope) own() {
	if e.bodies > 1 {
		e.frame = append([]byte(nil), e.frame...)
		return
	}
	e.body = append([]byte(nil), e.body...)
}

// view is what a body is read into.
type view interface {
	// merge adds what is in b: a message that comes twice is one message, as protobuf has it.
	merge(b []byte) error
}

// read reads the body of this field. It reports false if there is none.
func (e *envelope) read(num protowire.Number, v view) (found bool, err error) {
	if e.bodies <= 1 {
		if e.bodies == 0 || e.num != num {
			return false, nil
		}
		return true, v.merge(e.body)
	}
	f := fields{rest: e.frame}
	for f.next() {
		if f.isData(num) {
			found = true
			if err := v.merge(f.data); err != nil {
				return true, err
			}
		}
	}
	return found, f.err
}
