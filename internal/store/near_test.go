package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/segment"
)

// onDisk is entries in files, whose reads are counted. A message is one byte of its entry; 'x' is one that is damaged.
type onDisk struct {
	data  map[uint64][]byte
	reads int
}

func (d *onDisk) open(index uint64) func() (segment.Payload, error) {
	return func() (segment.Payload, error) {
		d.reads++
		return bytes.NewReader(d.data[index]), nil
	}
}

func oneByte(entry segment.Payload, slot uint16) (Message, error) {
	p := make([]byte, 1)
	if _, err := entry.ReadAt(p, int64(slot)); err != nil || p[0] == 'x' {
		return Message{}, errors.New("not what was written")
	}
	return Message{Body: p}, nil
}

func (d *onDisk) get(n *near, index uint64, slot uint16) (string, error) {
	m, err := n.message(Ref{Index: index, Slot: slot}, oneByte, "a file", d.open(index))
	return string(m.Body), err
}

func TestEntryIsReadOnceWhenMessagesFollowEachOther(t *testing.T) {
	d, n := &onDisk{data: map[uint64][]byte{7: []byte("abcdefgh")}}, &near{}
	for i := range uint16(8) {
		body, err := d.get(n, 7, i)
		require.NoError(t, err)
		require.Equal(t, string("abcdefgh"[i]), body)
	}
	require.Equal(t, nearWanted, d.reads, "single reads, and then the one of the whole")

	for index := range uint64(nearEntries) { // others push it out
		d.data[100+index] = []byte("z")
		_, err := d.get(n, 100+index, 0)
		require.NoError(t, err)
	}
	_, err := d.get(n, 7, 0)
	require.NoError(t, err)
	require.Equal(t, nearWanted+nearEntries+1, d.reads)
}

func TestManyMessagesAtOnceReadTheEntry(t *testing.T) {
	d, n := &onDisk{data: map[uint64][]byte{7: []byte("abcdefgh")}}, &near{}
	p, err := n.payload(7, nearWanted, d.open(7))
	require.NoError(t, err)
	require.Equal(t, segment.Data("abcdefgh"), p)
	p, err = n.payload(7, 1, d.open(7))
	require.NoError(t, err)
	require.Equal(t, segment.Data("abcdefgh"), p)
	require.Equal(t, 1, d.reads)

	n.forget(0)
	p, err = n.payload(7, 1, d.open(7))
	require.NoError(t, err)
	require.NotEqual(t, segment.Data("abcdefgh"), p, "forgotten, and one message is not worth it")
}

func TestEntryThatIsTooLargeIsNotKept(t *testing.T) {
	d, n := &onDisk{data: map[uint64][]byte{7: make([]byte, nearSize+1)}}, &near{}
	for range 3 {
		p, err := n.payload(7, nearWanted, d.open(7))
		require.NoError(t, err)
		require.IsType(t, &bytes.Reader{}, p)
	}
}

func TestEntryThatWasReadWrongIsReadAgain(t *testing.T) {
	d, n := &onDisk{data: map[uint64][]byte{7: []byte("abxd")}}, &near{}
	_, err := n.payload(7, nearWanted, d.open(7))
	require.NoError(t, err)
	var damage *segment.DamageError
	_, err = d.get(n, 7, 2)
	require.ErrorAs(t, err, &damage)

	_, err = n.payload(7, nearWanted, d.open(7))
	require.NoError(t, err)
	d.data[7] = []byte("abcd") // it was mended
	body, err := d.get(n, 7, 2)
	require.NoError(t, err)
	require.Equal(t, "c", body)
	body, err = d.get(n, 7, 0)
	require.NoError(t, err)
	require.Equal(t, "a", body)
}
