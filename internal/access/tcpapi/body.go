package tcpapi

// Views of the bodies that arrive. Strings and bytes alias the frame. has… tells whether a required field is there.

// views has one view of each of the bodies that come most often, so that they cost no memory.
type views struct {
	send    sendView
	receive receiveView
	delete  deleteView
}

// deletes gives the view of a delete, empty but for the memory of its handles, unless that is large.
func (v *views) deletes(batch bool) *deleteView {
	handles := v.delete.handles[:0]
	if cap(handles) > keptHandles {
		handles = nil
	}
	v.delete = deleteView{batch: batch, handles: handles}
	return &v.delete
}

// keptHandles is for how many handles a connection keeps memory.
const keptHandles = 64

// keptEntries is how many entries of a list are read, more than any list may have: one that is longer is refused all the
// same, and costs no memory. A frame could hold millions.
const keptEntries = 1 << 10

func keep[T any](list []T, entry T) []T {
	if len(list) >= keptEntries {
		return list
	}
	return append(list, entry)
}

// authView is a cmq_tcp_auth (199).
type authView struct {
	secretID, signature, clientID, method             []byte
	hasSecretID, hasSignature, hasClientID, hasMethod bool
}

func (v *authView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.secretID, v.hasSecretID = f.data, true
		case f.isData(2):
			v.signature, v.hasSignature = f.data, true
		case f.isData(3):
			v.clientID, v.hasClientID = f.data, true
		case f.isData(4):
			v.method, v.hasMethod = f.data, true
		}
	}
	return f.err
}

// missing is the first required field that is not there.
func (v *authView) missing() string {
	switch {
	case !v.hasSecretID:
		return "secret_id"
	case !v.hasSignature:
		return "signature"
	case !v.hasClientID:
		return "client_id"
	case !v.hasMethod:
		return "signature_method"
	}
	return ""
}

// sendView is a cmq_tcp_send_msg (200), whose last body counts, or a cmq_tcp_batch_send_msg (201).
type sendView struct {
	batch              bool
	queue              []byte
	hasQueue           bool
	bodies             [][]byte
	delay              uint32
	transaction        int32
	firstQueryInterval int32
	session            sessionView
}

func (v *sendView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.queue, v.hasQueue = f.data, true
		case f.isData(2):
			if !v.batch {
				v.bodies = v.bodies[:0]
			}
			v.bodies = keep(v.bodies, f.data)
		case f.isInt(3):
			v.delay = uint32(f.int)
		case f.isInt(4):
			v.transaction = int32(f.int)
		case f.isInt(5):
			v.firstQueryInterval = int32(f.int)
		case f.isData(fieldSession):
			if err := v.session.merge(f.data); err != nil {
				return err
			}
		}
	}
	return f.err
}

// sessionView is a Session (10000 of a send).
type sessionView struct {
	given                      bool
	id, epoch, number, acked   uint64
	hasID, hasEpoch, hasNumber bool
}

func (v *sessionView) merge(b []byte) error {
	v.given = true
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isInt(1):
			v.id, v.hasID = f.int, true
		case f.isInt(2):
			v.epoch, v.hasEpoch = f.int, true
		case f.isInt(3):
			v.number, v.hasNumber = f.int, true
		case f.isInt(4):
			v.acked = f.int
		}
	}
	return f.err
}

// openView is an OpenSession (10003).
type openView struct {
	queue    []byte
	hasQueue bool
	id       uint64
	hasID    bool
}

func (v *openView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.queue, v.hasQueue = f.data, true
		case f.isInt(2):
			v.id, v.hasID = f.int, true
		}
	}
	return f.err
}

// receiveView is a cmq_tcp_pull_msg_req (202) or a cmq_tcp_batch_pull_msg_req (204), which has num_msg in between.
type receiveView struct {
	batch    bool
	queue    []byte
	hasQueue bool
	num      int32
	hasNum   bool
	wait     int32
	hasWait  bool
	lock     uint32 // visible_timeout
	hasLock  bool
}

func (v *receiveView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		num := f.num
		if !v.batch && num >= 2 {
			num++ // as in a batch
		}
		switch {
		case f.isData(1):
			v.queue, v.hasQueue = f.data, true
		case num == 2 && f.isInt(2):
			v.num, v.hasNum = int32(f.int), true
		case num == 3 && f.isInt(f.num):
			v.wait, v.hasWait = int32(f.int), true
		case num == 4 && f.isInt(f.num):
			v.lock, v.hasLock = uint32(f.int), true
		}
	}
	return f.err
}

// deleteView is a cmq_tcp_delete_msg (206), whose last handle counts, or a cmq_tcp_batch_delete_msg (207).
type deleteView struct {
	batch    bool
	queue    []byte
	hasQueue bool
	handles  []uint64
}

func (v *deleteView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.queue, v.hasQueue = f.data, true
		case v.batch:
			v.handles = f.ints(v.handles, 2)
		case f.isInt(2):
			v.handles = append(v.handles[:0], f.int)
		}
	}
	return f.err
}

// relockView is a ChangeVisibility (10001).
type relockView struct {
	queue    []byte
	hasQueue bool
	handles  []uint64
	lock     uint32 // visible_timeout
	hasLock  bool
}

func (v *relockView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.queue, v.hasQueue = f.data, true
		case f.isInt(3):
			v.lock, v.hasLock = uint32(f.int), true
		default:
			v.handles = f.ints(v.handles, 2)
		}
	}
	return f.err
}

// stopView is a StopWaiting (10002).
type stopView struct {
	seqno    int64
	hasSeqno bool
}

func (v *stopView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		if f.isInt(1) {
			v.seqno, v.hasSeqno = int64(f.int), true
		}
	}
	return f.err
}

// publishView is a cmq_tcp_publish_msg (208), whose last body counts, or a cmq_tcp_batch_publish_msg (209).
type publishView struct {
	batch    bool
	topic    []byte
	hasTopic bool
	bodies   [][]byte
	tags     [][]byte
	key      []byte // routing_key
	hasKey   bool
}

func (v *publishView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.topic, v.hasTopic = f.data, true
		case f.isData(2):
			if !v.batch {
				v.bodies = v.bodies[:0]
			}
			v.bodies = keep(v.bodies, f.data)
		case f.isData(3):
			v.tags = keep(v.tags, f.data)
		case f.isData(4):
			v.key, v.hasKey = f.data, true
		}
	}
	return f.err
}

// confirmView is a cmq_transaction_confirm (221).
type confirmView struct {
	queue    []byte
	hasQueue bool
	items    []confirmItem
}

// confirmItem is a cmq_transaction_confirm_item.
type confirmItem struct {
	id    uint64
	state int32
}

// Decisions about a message of a transaction.
const (
	stateCommit   = 1
	stateRollback = 2
	stateUnknown  = 3 // only in answers
)

func (v *confirmView) merge(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isData(1):
			v.queue, v.hasQueue = f.data, true
		case f.isData(2):
			item, err := parseItem(f.data)
			if err != nil {
				return err
			}
			v.items = keep(v.items, item)
		}
	}
	return f.err
}

// parseItem wants both fields.
func parseItem(b []byte) (item confirmItem, err error) {
	var hasID, hasState bool
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.isInt(1):
			item.id, hasID = f.int, true
		case f.isInt(2):
			item.state, hasState = int32(f.int), true
		}
	}
	if f.err == nil && (!hasID || !hasState) {
		return item, errWire
	}
	return item, f.err
}
