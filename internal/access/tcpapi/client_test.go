package tcpapi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/access/accesstest"
	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"

	pb "github.com/opencmq/cmq/internal/access/tcpapi/tcppb"
)

// The credentials of the golden frames.
const (
	goldenID     = "AKIDtest"
	goldenSecret = "testSecretKey"
	goldenClient = "10.1.2.3@DEFAULT"
)

// keyring is keys as a test holds them.
type keyring struct {
	mu   sync.Mutex
	keys map[string]*cmq.AccessKey
}

func (k *keyring) Key(id string) (*cmq.AccessKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.keys[id]
	return key, ok
}

func (k *keyring) set(id string, key *cmq.AccessKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[id] = key
}

// rig is a door with a fake Backend that has the queue jq of the account of the golden key.
type rig struct {
	t    testing.TB
	door *Door
	fake *accesstest.Fake
	keys *keyring
}

func newRig(t testing.TB, change func(*Config)) *rig {
	r := &rig{t: t, fake: accesstest.New(clock.Real()), keys: &keyring{keys: map[string]*cmq.AccessKey{
		goldenID:  {ID: goldenID, Secret: goldenSecret, Owner: "me", Enabled: true},
		"AKIDoff": {ID: "AKIDoff", Secret: goldenSecret, Owner: "me"},
		"AKIDyou": {ID: "AKIDyou", Secret: goldenSecret, Owner: "you", Enabled: true},
	}}}
	log := slog.New(slog.DiscardHandler)
	producers := access.NewProducers(accesstest.Node, r.fake, log)
	config := Config{Backend: r.fake, Keys: r.keys, Producers: producers, Logger: log}
	if change != nil {
		change(&config)
	}
	r.door = New(config)
	r.create("jq", 30)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.door.Shutdown(ctx)
		producers.Close()
	})
	return r
}

func (r *rig) create(name string, visibility int64) {
	_, err := r.fake.CreateQueue(r.t.Context(), "me", name, cmq.QueueSettings{VisibilityTimeout: &visibility})
	require.NoError(r.t, err)
}

// client is a small client of the protocol. Its frames are made by generated code, or given in hex.
type client struct {
	t    testing.TB
	conn net.Conn
}

// dial connects through memory, where time may be a test's own.
func (r *rig) dial() *client {
	mine, theirs := net.Pipe()
	r.door.accept(theirs)
	r.t.Cleanup(func() { mine.Close() })
	return &client{r.t, mine}
}

// login connects and says who it is.
func (r *rig) login() *client {
	c := r.dial()
	c.send(authFrame(0, goldenID, goldenSecret))
	require.Zero(r.t, c.next().GetResult())
	return c
}

func authFrame(seqno int64, id, secret string) *pb.CMQProto {
	return &pb.CMQProto{Seqno: &seqno, Cmd: proto.Int32(cmdAuth), TcpAuth: &pb.Auth{
		SecretId: &id, ClientId: proto.String(goldenClient), SignatureMethod: proto.String("HmacSHA1"),
		Signature: proto.String(auth.SignConnect(goldenClient, id, secret, false)),
	}}
}

func frameOf(t testing.TB, m *pb.CMQProto) []byte {
	body, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	require.NoError(t, err)
	frame := binary.LittleEndian.AppendUint32([]byte{0, 0}, uint32(headerSize+len(body)))
	return append(frame, body...)
}

func (c *client) send(m *pb.CMQProto) { c.write(frameOf(c.t, m)) }

func (c *client) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

func (c *client) hex(frame string) {
	c.t.Helper()
	b, err := hex.DecodeString(frame)
	require.NoError(c.t, err)
	c.write(b)
}

// raw reads a frame.
func (c *client) raw() []byte {
	c.t.Helper()
	head := make([]byte, headerSize)
	_, err := io.ReadFull(c.conn, head)
	require.NoError(c.t, err)
	frame := append(head, make([]byte, int(binary.LittleEndian.Uint32(head[2:]))-headerSize)...)
	_, err = io.ReadFull(c.conn, frame[headerSize:])
	require.NoError(c.t, err)
	return frame
}

// next reads an answer. Generated code checks that nothing required is missing.
func (c *client) next() *pb.CMQProto {
	c.t.Helper()
	var m pb.CMQProto
	require.NoError(c.t, proto.Unmarshal(c.raw()[headerSize:], &m))
	return &m
}

// call sends a request and reads the next answer, which must be its.
func (c *client) call(m *pb.CMQProto) *pb.CMQProto {
	c.t.Helper()
	c.send(m)
	a := c.next()
	require.Equal(c.t, m.GetSeqno(), a.GetSeqno())
	require.Equal(c.t, m.GetCmd(), a.GetCmd())
	return a
}

// closed waits until the door has closed the connection, without another word.
func (c *client) closed() {
	c.t.Helper()
	rest, err := io.ReadAll(c.conn)
	require.Empty(c.t, rest)
	if err != nil {
		require.NotErrorIs(c.t, err, context.DeadlineExceeded)
	}
}

// silent checks that nothing has been written by now.
func (c *client) silent() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now())
	n, err := c.conn.Read(make([]byte, 1))
	require.Zero(c.t, n)
	require.ErrorContains(c.t, err, "timeout")
	c.conn.SetReadDeadline(time.Time{})
}

// ask begins a request.
func ask(seqno int64, cmd int32) *pb.CMQProto { return &pb.CMQProto{Seqno: &seqno, Cmd: &cmd} }

func sendTo(seqno int64, queue, body string) *pb.CMQProto {
	m := ask(seqno, cmdSend)
	m.TcpSendMsg = &pb.SendMsg{QueueName: &queue, MsgBody: []byte(body)}
	return m
}

func batchSendTo(seqno int64, queue string, delay uint32, bodies ...string) *pb.CMQProto {
	m := ask(seqno, cmdBatchSend)
	m.TcpBatchSendMsg = &pb.BatchSendMsg{QueueName: &queue, DelaySeconds: &delay}
	for _, b := range bodies {
		m.TcpBatchSendMsg.MsgBody = append(m.TcpBatchSendMsg.MsgBody, []byte(b))
	}
	return m
}

func receiveFrom(seqno int64, queue string, wait int32) *pb.CMQProto {
	m := ask(seqno, cmdReceive)
	m.TcpPullMsg = &pb.PullMsg{QueueName: &queue, PollWaitSeconds: &wait}
	return m
}

func batchReceiveFrom(seqno int64, queue string, num, wait int32) *pb.CMQProto {
	m := ask(seqno, cmdBatchReceive)
	m.TcpBatchPullMsg = &pb.BatchPullMsg{QueueName: &queue, NumMsg: &num, PollWaitSeconds: &wait}
	return m
}

func deleteFrom(seqno int64, queue string, handle uint64) *pb.CMQProto {
	m := ask(seqno, cmdDelete)
	m.TcpDeleteMsg = &pb.DeleteMsg{QueueName: &queue, ReceiptHandle: &handle}
	return m
}

func batchDeleteFrom(seqno int64, queue string, handles ...uint64) *pb.CMQProto {
	m := ask(seqno, cmdBatchDelete)
	m.TcpBatchDeleteMsg = &pb.BatchDeleteMsg{QueueName: &queue, ReceiptHandleList: handles}
	return m
}
