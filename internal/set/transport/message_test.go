package transport

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/set"
)

// fullMessage has a value other than zero in every field that travels.
func fullMessage(data int) set.Message {
	entries := []*raftpb.Entry{
		{Type: raftpb.EntryConfChangeV2.Enum(), Term: proto.Uint64(7), Index: proto.Uint64(101), Data: []byte("change")},
		{Type: raftpb.EntryNormal.Enum(), Term: proto.Uint64(8), Index: proto.Uint64(102), Data: bytes.Repeat([]byte("x"), data)},
		{Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(9), Index: proto.Uint64(103), Data: []byte("y")},
	}
	return set.Message{
		Raft: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(9),
			LogTerm: proto.Uint64(6), Index: proto.Uint64(100), Entries: entries, Commit: proto.Uint64(99),
			Vote: proto.Uint64(3), Reject: proto.Bool(true), RejectHint: proto.Uint64(98), Context: []byte("context"),
			Snapshot: &raftpb.Snapshot{
				Data:     bytes.Repeat([]byte("s"), data),
				Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(90), Term: proto.Uint64(5), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}},
			},
		},
		Time:  1_700_000_000_123,
		Warm:  true,
		Wall:  1_700_000_000_456,
		Fetch: &set.Fetch{Index: 11, Term: 12, Next: 13, Offset: 14},
		Chunk: &set.Chunk{
			Fetch: set.Fetch{Index: 21, Term: 22, Next: 23, Offset: 24},
			First: 25, Entries: entries, Image: bytes.Repeat([]byte("i"), data), Size: 26, Gone: true,
		},
	}
}

// encodeFrame gives the whole frame in one piece.
func encodeFrame(t testing.TB, m set.Message) []byte {
	var e encoder
	it := item{typ: typeMessage, set: 77, msg: m}
	require.NoError(t, e.item(&it))
	e.flush()
	return bytes.Join(e.pieces, nil)
}

func TestMessageRoundTrip(t *testing.T) {
	for name, data := range map[string]int{"small": 3, "copied": aliasSize - 1, "referred to": aliasSize, "large": 3 * flushBytes} {
		t.Run(name, func(t *testing.T) {
			want := fullMessage(data)
			h, payload, err := readFrame(bytes.NewReader(encodeFrame(t, want)), maxFrame)
			require.NoError(t, err)
			require.EqualValues(t, 77, h.set)
			require.EqualValues(t, typeMessage, h.typ)
			got, err := decodeMessage(payload)
			require.NoError(t, err)
			require.True(t, proto.Equal(want.Raft, got.Raft))
			require.Len(t, got.Chunk.Entries, 3)
			for i, e := range want.Chunk.Entries {
				require.True(t, proto.Equal(e, got.Chunk.Entries[i]))
			}
			want.Raft, got.Raft, want.Chunk.Entries, got.Chunk.Entries = nil, nil, nil, nil
			require.Equal(t, want, got)
		})
	}
}

func TestEveryPartMayBeMissing(t *testing.T) {
	full := fullMessage(10)
	rows := map[string]set.Message{
		"nothing":   {},
		"time only": {Time: -5, Wall: -6},
		"raft only": {Raft: full.Raft},
		"heartbeat": {Raft: &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), To: proto.Uint64(2), From: proto.Uint64(1)}},
		"fetch":     {Fetch: full.Fetch, Warm: true},
		"chunk":     {Chunk: &set.Chunk{Gone: true}},
	}
	for name, want := range rows {
		t.Run(name, func(t *testing.T) {
			_, payload, err := readFrame(bytes.NewReader(encodeFrame(t, want)), maxFrame)
			require.NoError(t, err)
			got, err := decodeMessage(payload)
			require.NoError(t, err)
			// Absent numbers come back as zero, which raft's getters do not tell apart.
			require.Equal(t, encodeFrame(t, want), encodeFrame(t, got))
			require.Equal(t, want.Time, got.Time)
			require.Equal(t, want.Fetch, got.Fetch)
			require.Equal(t, want.Chunk, got.Chunk)
			require.Equal(t, want.Raft.GetType(), got.Raft.GetType())
		})
	}
}

func TestEntryDataAliasesTheFrame(t *testing.T) {
	_, payload, err := readFrame(bytes.NewReader(encodeFrame(t, fullMessage(100))), maxFrame)
	require.NoError(t, err)
	m, err := decodeMessage(payload)
	require.NoError(t, err)
	data := m.Raft.Entries[1].Data
	at := bytes.Index(payload, data)
	payload[at] = 'Z'
	require.Equal(t, byte('Z'), data[0])
	require.Equal(t, len(data), cap(data), "appending must not run into the next field")
}

func TestForgedMessagesAreRefused(t *testing.T) {
	rows := map[string]func(m *set.Message){
		"term beyond reach":         func(m *set.Message) { m.Raft.Term = proto.Uint64(1 << 63) },
		"log term beyond reach":     func(m *set.Message) { m.Raft.LogTerm = proto.Uint64(maxTerm + 1) },
		"index beyond reach":        func(m *set.Message) { m.Raft.Index = proto.Uint64(1 << 40) },
		"entry term beyond reach":   func(m *set.Message) { m.Raft.Entries[0].Term = proto.Uint64(1 << 63) },
		"local message":             func(m *set.Message) { m.Raft.Type = raftpb.MsgHup.Enum() },
		"storage's message":         func(m *set.Message) { m.Raft.Type = raftpb.MsgStorageAppendResp.Enum() },
		"type that does not exist":  func(m *set.Message) { m.Raft.Type = raftpb.MessageType(99).Enum() },
		"entry type does not exist": func(m *set.Message) { m.Raft.Entries[0].Type = raftpb.EntryType(3).Enum() },
	}
	for name, forge := range rows {
		t.Run(name, func(t *testing.T) {
			m := fullMessage(10)
			forge(&m)
			_, err := decodeMessage(encodeFrame(t, m)[headerSize:])
			require.ErrorIs(t, err, errMessage)
		})
	}
}

func TestMessageCutOrExtendedIsRefused(t *testing.T) {
	payload := encodeFrame(t, fullMessage(10))[headerSize:]
	for n := range payload {
		_, err := decodeMessage(payload[:n:n])
		require.ErrorIs(t, err, errMessage, "%d bytes", n)
	}
	_, err := decodeMessage(append(payload, 0))
	require.ErrorIs(t, err, errMessage)
	payload[0] = 2
	_, err = decodeMessage(payload)
	require.ErrorContains(t, err, "version 2")
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(encodeFrame(f, fullMessage(10))[headerSize:])
	f.Add(encodeFrame(f, set.Message{})[headerSize:])
	f.Add(encodeFrame(f, set.Message{Fetch: &set.Fetch{Index: 1}})[headerSize:])
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := decodeMessage(payload)
		if err != nil {
			return
		}
		again, err := decodeMessage(encodeFrame(t, m)[headerSize:])
		require.NoError(t, err)
		require.Equal(t, encodeFrame(t, m), encodeFrame(t, again))
	})
}
