package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// fromHex gives the bytes of a frame as protocol documents print it.
func fromHex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

// signed makes credentials as the protocol says: the signature is over client id and secret id.
func signed(method string, newHash func() hash.Hash) Credentials {
	c := Credentials{SecretID: "AKIDtest", ClientID: "10.1.2.3@DEFAULT", Method: method}
	mac := hmac.New(newHash, []byte("testSecretKey"))
	io.WriteString(mac, c.ClientID+c.SecretID)
	c.Signature = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return c
}

// The golden frames are what the published Java SDK sends.
func TestRequestsAreTheBytesOfTheJavaSDK(t *testing.T) {
	for name, c := range map[string]struct {
		request Request
		frame   string
	}{
		"auth, HmacSHA1": {Request{Seq: 2, Cmd: Auth, Credentials: signed("HmacSHA1", sha1.New)},
			"000052000000080210fc07ba0c440a08414b494474657374121c377050444e4c2f51534c6e4e653068586d576f79535a4b43776c303d1a1031302e312e322e334044454641554c542208486d616353484131"},
		"auth, HmacSHA256": {Request{Seq: 2, Cmd: Auth, Credentials: signed("HmacSHA256", sha256.New)},
			"000064000000080210fc07ba0c560a08414b494474657374122c4c7854697961786f6c346c6a45594b64765657666c386350574b303767576c5872486f4c30716f714f644d3d1a1031302e312e322e334044454641554c54220a486d6163534841323536"},
		"send": {Request{Seq: 1, Cmd: Send, RequestID: 1, Name: "jq", Body: "hello"},
			"00001b000000080110fd075001c20c0b0a026a71120568656c6c6f"},
		"receive, 2 s": {Request{Seq: 6, Cmd: Receive, Name: "jq", Wait: 2},
			"000014000000080610ff07d20c060a026a711002"},
		"publish, two tags": {Request{Seq: 12, Cmd: Publish, RequestID: 5, Name: "jt", Body: "tagged", Tags: []string{"red", "blue"}},
			"000027000000080c1083085005820d170a026a7412067461676765641a037265641a04626c7565"},
		"batch delete": {Request{Seq: 10, Cmd: BatchDelete, Name: "jq", Handles: []uint64{5<<49 + 0xc02, 123}},
			"00001d000000080a108208fa0c0f0a026a71108298808080808005107b"},
		"heartbeat": {Request{Seq: 27, Cmd: Heartbeat},
			"00000b000000081b109008"},
		"prepared send": {Request{Seq: 17, Cmd: Send, RequestID: 8, Name: "jtx", Body: "tx1", Prepared: true, FirstQuery: 5},
			"00001e000000081110fd075008c20c0e0a036a7478120374783120012805"},
		"confirm": {Request{Seq: 24, Cmd: Confirm, Name: "jtx", Decisions: []Decision{{ID: 1000000017, State: Commit}, {ID: 1000000018, State: Rollback}}},
			"0000270000000818109108ea0d190a036a74781208089194ebdc0310011208089294ebdc031002"},
	} {
		t.Run(name, func(t *testing.T) {
			want := fromHex(t, c.frame)
			require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(Append(nil, &c.request)))
			require.Equal(t, want, Append([]byte("before"), &c.request)[6:], "what is before a frame does not count")
		})
	}
}

// Members that no golden frame has.
func TestRequestsWithEveryMember(t *testing.T) {
	long := strings.Repeat("x", 200) // its length, and that of the body around it, take two bytes
	for name, c := range map[string]struct {
		request Request
		body    string // of the frame, after seqno and cmd
	}{
		"delay":                   {Request{Cmd: Send, Name: "q", Body: "b", Delay: 300}, "c20c 09 0a0171 120162 18ac02"},
		"batch send":              {Request{Cmd: BatchSend, Name: "q", Bodies: []string{"a", "", "c"}, Delay: 7}, "ca0c 0d 0a0171 120161 1200 120163 1807"},
		"long body":               {Request{Cmd: Send, Name: "q", Body: long}, "c20c ce01 0a0171 12c801" + strings.Repeat("78", 200)},
		"receive, the queue's":    {Request{Cmd: Receive, Name: "q", Wait: -1}, "d20c 03 0a0171"},
		"receive, no wait":        {Request{Cmd: Receive, Name: "q", Lock: 40}, "d20c 07 0a0171 1000 1828"},
		"batch receive":           {Request{Cmd: BatchReceive, Name: "q", Max: 16, Wait: 10, Lock: 40}, "e20c 09 0a0171 1010 180a 2028"},
		"delete":                  {Request{Cmd: Delete, Name: "q", Handle: 300}, "f20c 06 0a0171 10ac02"},
		"publish, a routing key":  {Request{Cmd: Publish, Name: "t", Body: "b", RoutingKey: "a.b"}, "820d 0b 0a0174 120162 2203612e62"},
		"batch publish, two tags": {Request{Cmd: BatchPublish, Name: "t", Bodies: []string{"b"}, Tags: []string{"r", "s"}}, "8a0d 0c 0a0174 120162 1a0172 1a0173"},
		"change visibility":       {Request{Cmd: ChangeVisibility, Name: "q", Handles: []uint64{1, 2}, Lock: 40}, "8af104 09 0a0171 1001 1002 1828"},
		"send in a session":       {Request{Cmd: Send, Name: "q", Body: "b", Session: Session{ID: 300, Epoch: 1, Number: 2, Acked: 3}}, "c20c 13 0a0171 120162 82f104 09 08ac02 1001 1802 2003"},
		"open session":            {Request{Cmd: OpenSession, Name: "q", Session: Session{ID: 300}}, "9af104 06 0a0171 10ac02"},
		"stop waiting":            {Request{Cmd: StopWaiting, Waiting: 9}, "92f104 02 0809"},
	} {
		t.Run(name, func(t *testing.T) {
			c.request.Seq = 1
			frame := Append(nil, &c.request)
			_, rest, ok := bytes.Cut(frame, fromHex(t, "0801"))
			require.True(t, ok)
			require.Equal(t, strings.ReplaceAll(c.body, " ", ""), hex.EncodeToString(rest[1+varintLen(uint64(c.request.Cmd)):]))
		})
	}
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		frame string
		seq   int64
		want  Answer
	}{
		"auth":              {"00000f000000080210fc0718002200", 2, Answer{Cmd: Auth}},
		"send":              {"000016000000080110fd0718002200e8019194ebdc03", 1, Answer{Cmd: Send, IDs: []uint64{1000000017}}},
		"ids packed":        {"000011000000080110fd07ea0103010203", 1, Answer{Cmd: Send, IDs: []uint64{1, 2, 3}}},
		"ids one by one":    {"000014000000080110fe07e80101e80102e80103", 1, Answer{Cmd: BatchSend, IDs: []uint64{1, 2, 3}}},
		"receive, smallest": {"000026000000080610ff071800d20116088194ebdc03188198808080808005220568656c6c6f", 6, Answer{Cmd: Receive, Messages: []Message{{ID: 1000000001, Handle: 5<<49 + 0xc01, Body: "hello"}}}},
		"receive, all members": {"000000000000080610ff07d2011908011802 2203616263 2805300638 07400a 4a027131 5064580c", 6, Answer{Cmd: Receive, Messages: []Message{
			{ID: 1, Handle: 2, Body: "abc", Enqueued: 5, NextVisible: 6, FirstDequeue: 7, DequeueCount: 10, OriginQueue: "q1", OriginTime: 100, OriginDequeue: 12}}}},
		"batch receive":   {"0000000000000806108008da010c0a0408011802 0a0408031804", 6, Answer{Cmd: BatchReceive, Messages: []Message{{ID: 1, Handle: 2}, {ID: 3, Handle: 4}}}},
		"no message":      {"00001a000000080b10ff0718d84f220a6e6f206d657373616765", 11, Answer{Cmd: Receive, Result: 10200, Error: "no message"}},
		"batch delete":    {"000028000000080a10820818a64f22077061727469616ce2010e087b1094501a07696e76616c6964", 10, Answer{Cmd: BatchDelete, Result: 10150, Error: "partial", Failed: []Failure{{Handle: 123, Code: 10260, Text: "invalid"}}}},
		"query":           {"00001a00000008d936109208fa0d0b0a036a7478109094ebdc03", 7001, Answer{Cmd: Query, Asked: Asked{Name: "jtx", ID: 1000000016}}},
		"confirm":         {"0000000000000818109108f20d150a0161 120408011001 120a08021003180a220277 68", 24, Answer{Cmd: Confirm, Decisions: []Decision{{ID: 1, State: Commit}, {ID: 2, State: Undecided, Code: 10, Text: "wh"}}}},
		"session":         {"000000000000 0801 10934e a0f10407", 1, Answer{Cmd: OpenSession, Epoch: 7}},
		"unknown members": {"000000000000080110fd07 9d0601020304 99060102030405060708 a2060161 980601", 1, Answer{Cmd: Send}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := fromHex(t, strings.ReplaceAll(c.frame, " ", ""))
			raw[2] = byte(len(raw)) // rows need not count
			body, err := NewReader(bytes.NewReader(raw)).Next()
			require.NoError(t, err)
			seq, cmd, err := Head(body)
			require.NoError(t, err)
			require.Equal(t, c.seq, seq)
			a := Answer{IDs: []uint64{9}, Messages: []Message{{Body: "of the frame before", DequeueCount: 9}}, Failed: []Failure{{}}, Decisions: []Decision{{}}}
			require.NoError(t, a.Decode(body))
			require.Equal(t, cmd, a.Cmd)
			c.want.IDs = append([]uint64{}, c.want.IDs...)
			c.want.Messages = append([]Message{}, c.want.Messages...)
			c.want.Failed = append([]Failure{}, c.want.Failed...)
			c.want.Decisions = append([]Decision{}, c.want.Decisions...)
			require.Equal(t, c.want, a)
		})
	}
}

// What cannot be read is an error, wherever it is cut.
func TestDamagedAnswers(t *testing.T) {
	whole := fromHex(t, "080610ff071800d20116088194ebdc03188198808080808005220568656c6c6f")
	var a Answer
	require.NoError(t, a.Decode(whole))
	for n := range whole {
		_, _, errHead := Head(whole[:n])
		err := a.Decode(whole[:n])
		if n != 5 && n != 7 { // there a field ends, and the frame is shorter but not damaged
			require.Error(t, errors.Join(errHead, err), "cut at %d", n)
		}
	}
	for name, text := range map[string]string{
		"a group":          "080110fd070b0c",
		"field 0":          "080110fd070001",
		"a long varint":    "080110fd0718ffffffffffffffffffff01",
		"ids cut":          "080110fd07ea01028080",
		"message cut":      "080110ff07d201020a05",
		"failure cut":      "0801108208e201020a05",
		"query cut":        "0801109208fa0d020a05",
		"confirmation cut": "0801109108f20d0412020a05",
	} {
		require.Error(t, a.Decode(fromHex(t, text)), name)
	}
	for name, text := range map[string]string{"no seqno": "10fd07", "no cmd": "0801", "empty": ""} {
		_, _, err := Head(fromHex(t, text))
		require.ErrorIs(t, err, errNoSeq, name)
	}
}

// stream is frames of several sizes glued together.
func stream(t testing.TB) (raw []byte, bodies []string) {
	for i, size := range []int{0, 1, 100, readBuffer, 3, keepBuffer * 2, 5, 70_000, 0} {
		frame := Append(nil, &Request{Seq: int64(i), Cmd: Send, Name: "q", Body: strings.Repeat("z", size)})
		raw = append(raw, frame...)
		bodies = append(bodies, string(frame[headerLen:]))
	}
	return raw, bodies
}

func TestFramesSplitAndGlued(t *testing.T) {
	raw, bodies := stream(t)
	for name, cut := range map[string]func(io.Reader) io.Reader{
		"glued": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "halves": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(cut(bytes.NewReader(raw)))
			for _, want := range bodies {
				got, err := r.Next()
				require.NoError(t, err)
				require.True(t, want == string(got), "a body of %d bytes", len(want))
			}
			_, err := r.Next()
			require.Equal(t, io.EOF, err)
			require.LessOrEqual(t, len(r.buf), keepBuffer, "the memory of the large frame was given back")
		})
	}
}

func TestBuffered(t *testing.T) {
	one := Append(nil, &Request{Seq: 1, Cmd: Heartbeat})
	r := NewReader(bytes.NewReader(append(append(one, one...), one[:8]...)))
	_, err := r.Next()
	require.NoError(t, err)
	require.True(t, r.Buffered())
	_, err = r.Next()
	require.NoError(t, err)
	require.False(t, r.Buffered(), "half a frame is left")
}

func TestStreamsThatAreNotCMQ(t *testing.T) {
	for name, c := range map[string]struct{ bytes, err string }{
		"wrong marker": {"HTTP/1.1 400 Bad Request", "two zero bytes"},
		"too short":    {"\x00\x00\x05\x00\x00\x00", "a frame of 5 bytes"},
		"too long":     {"\x00\x00\x01\x00\x00\x02", "a frame of 33554433 bytes"},
		"half a head":  {"\x00\x00\x01", "unexpected EOF"},
		"half a body":  {"\x00\x00\x09\x00\x00\x00\x08", "unexpected EOF"},
	} {
		_, err := NewReader(strings.NewReader(c.bytes)).Next()
		require.ErrorContains(t, err, c.err, name)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r := Request{Seq: 1, Cmd: BatchSend, Name: "q", Bodies: []string{strings.Repeat("x", 1024), "y"}}
	buf := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = Append(buf[:0], &r) }))
	body := fromHex(t, "080110fe07e80101e80102e80103")
	var a Answer
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, _, err := Head(body); err != nil || a.Decode(body) != nil {
			t.Error("not decoded")
		}
	}))
}

func FuzzReader(f *testing.F) {
	raw, _ := stream(f)
	f.Add(raw[:300])
	f.Add([]byte("\x00\x00\x1a\x00\x00\x00\x08\x0b\x10\xff\x07\x18\xd8\x4f\x22\x0a\x6e\x6f\x20\x6d\x65\x73\x73\x61\x67\x65"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		var a Answer
		for {
			body, err := r.Next()
			if err != nil {
				return
			}
			_, cmd, headErr := Head(body)
			if err := a.Decode(body); err == nil && headErr == nil && a.Cmd != cmd {
				t.Fatalf("head says command %d, the answer %d", cmd, a.Cmd)
			}
		}
	})
}

func BenchmarkAppendSend(b *testing.B) {
	r := Request{Seq: 1, Cmd: Send, Name: "orders", Body: strings.Repeat("x", 1024)}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], &r)
	}
}

func BenchmarkDecodeReceive(b *testing.B) {
	body := fromHex(b, "080610ff07d2012b080118022203616263280530063807400a4a0271315064580c")[:5]
	e := encoder{b: body}
	e.head(26, 1024+3+4)
	e.number(1, 1)
	e.number(3, 2)
	e.text(4, strings.Repeat("x", 1024))
	var a Answer
	b.ReportAllocs()
	for b.Loop() {
		if a.Decode(e.b) != nil {
			b.Fatal("not decoded")
		}
	}
}
