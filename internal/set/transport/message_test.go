package transport

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
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
		Space: set.SpaceHard,
		Sync:  789,
		Ask: &set.Ask{
			ID: 10, Kind: set.AskSuccessor, Lo: 11, Hi: 12, Anchor: 13, AnchorTerm: 14, Index: 15, Offset: 16, Name: "file", Shard: 17, Lane: -18,
			Refs: []store.Ref{{Index: 19, Slot: 20}, {Index: 21, Slot: 22}},
		},
		Answer: &set.Answer{
			ID: 30, Kind: set.AskEntries, Verdict: set.Later, Whole: true, First: 31, Last: 32, Commit: 33, Voted: 34, Index: 35, Term: 36,
			Conf: bytes.Repeat([]byte("c"), data), Size: 37, Sum: 62, Files: []reflog.File{{Name: "refs", Size: 38, CRC: 39}, {Name: "more", Size: 40, CRC: 41}},
			Entries: entries, Seen: 42,
			Messages: []store.Message{{Ref: store.Ref{Index: 43, Slot: 44}, Origin: 45, Time: 46, Body: bytes.Repeat([]byte("b"), data)}, {Time: -1, Body: []byte("z")}},
			Runs:     []reflog.Run{{Seq: 47, Index: 48, Slot: 49, N: 50, Time: 51, Bytes: 52}, {Seq: 53}},
			Data:     bytes.Repeat([]byte("d"), data),
		},
		Digest: &set.Digest{Index: 60, Sum: 61},
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
			require.Len(t, got.Answer.Entries, 3)
			for i, e := range want.Answer.Entries {
				require.True(t, proto.Equal(e, got.Answer.Entries[i]))
			}
			want.Raft, got.Raft, want.Answer.Entries, got.Answer.Entries = nil, nil, nil, nil
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
		"ask":       {Ask: full.Ask, Warm: true},
		"empty ask": {Ask: &set.Ask{Kind: set.AskEnd}, Space: set.SpaceSoft},
		"answer":    {Answer: &set.Answer{Kind: set.AskImage, Verdict: set.Never}},
		"digest":    {Digest: full.Digest, Sync: 1},
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
			require.Equal(t, want.Ask, got.Ask)
			require.Equal(t, want.Answer, got.Answer)
			require.Equal(t, want.Digest, got.Digest)
			require.Equal(t, want.Space, got.Space)
			require.Equal(t, want.Sync, got.Sync)
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
		"disk fuller than full":     func(m *set.Message) { m.Space = 3 },
		"question does not exist":   func(m *set.Message) { m.Ask.Kind = set.AskSuccessor + 1 },
		"no question":               func(m *set.Message) { m.Ask.Kind = 0 },
		"anchor beyond reach":       func(m *set.Message) { m.Ask.Anchor = cmq.MaxIndex + 1 },
		"reference beyond reach":    func(m *set.Message) { m.Ask.Refs[1].Index = cmq.MaxIndex + 1 },
		"verdict does not exist":    func(m *set.Message) { m.Answer.Verdict = set.Later + 1 },
		"no verdict":                func(m *set.Message) { m.Answer.Verdict = 0 },
		"file beyond reach":         func(m *set.Message) { m.Answer.Files[0].Size = -1 },
		"run beyond reach":          func(m *set.Message) { m.Answer.Runs[0].Index = 1 << 41 },
		"digest beyond reach":       func(m *set.Message) { m.Digest.Index = 1 << 41 },
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
	payload[0] = 1
	_, err = decodeMessage(payload)
	require.ErrorContains(t, err, "version 1")
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(encodeFrame(f, fullMessage(10))[headerSize:])
	f.Add(encodeFrame(f, set.Message{})[headerSize:])
	full := fullMessage(10)
	f.Add(encodeFrame(f, set.Message{Ask: full.Ask})[headerSize:])
	f.Add(encodeFrame(f, set.Message{Answer: full.Answer})[headerSize:])
	f.Add(encodeFrame(f, set.Message{Digest: full.Digest})[headerSize:])
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
